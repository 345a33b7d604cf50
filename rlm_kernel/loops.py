"""Calls from one event loop into another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


def soon(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: Any) -> bool:
    """Call in `loop`, now if it is the running one; False if it is closed."""
    if asyncio._get_running_loop() is loop:
        call(*arguments)
        return True
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        return False
    return True
