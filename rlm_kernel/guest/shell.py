# mypy: disable-error-code="no-untyped-call"
"""IPython's shell and kernel with errors cut, interrupts that reach a waiting cell, and no memory of outputs."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from ipykernel.zmqshell import ZMQInteractiveShell
from traitlets import Type

from .cancel import CELL
from .cuts import MESSAGE_LIMIT, cut_text, cut_traceback
from .output import ACCOUNTS, CutDisplayHook, CutPublisher, flush_streams
from .plain import CutTraceback
from .wall import CLOCK, set_wall_clock

FRAMES_KEPT = 20
"""Frames of a deep traceback that are kept at each end; formatting thousands takes seconds."""


class GuestShell(ZMQInteractiveShell):
    """The shell that runs cells."""

    display_pub_class = Type(CutPublisher)
    displayhook_class = Type(CutDisplayHook)
    _frames_cut = 0

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Keep no copy of what is printed; the base keeps all of it for ever."""
        yield

    def init_traceback_handlers(self, custom_exceptions: Any) -> None:
        """Format errors with their messages cut."""
        super().init_traceback_handlers(custom_exceptions)
        self.InteractiveTB = CutTraceback(mode=self.xmode, theme_name=self.colors, tb_offset=1)

    def _get_exc_info(self, exc_tuple: Any = None) -> Any:
        etype, value, trace = super()._get_exc_info(exc_tuple)
        trace, self._frames_cut = shorten(trace)
        return etype, value, trace

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        lines = list(stb)
        if self._frames_cut:
            lines.insert(-1, f"[… {self._frames_cut} frames in the middle cut …]")
        flush_streams()
        super()._showtraceback(etype, cut_text(str(evalue), MESSAGE_LIMIT), cut_traceback(lines))

    def ask_exit(self) -> None:
        """Stay: `exit()` in a cell must not cost the variables."""

    def payloadpage_page(self, strg: Any, start: int = 0, screen_lines: int = 0, pager_cmd: Any = None) -> None:
        """Print what IPython would open in a pager, as `name?` does."""
        print(strg["text/plain"] if isinstance(strg, dict) else strg)  # noqa: T201


class GuestKernel(IPythonKernel):
    """The kernel that answers requests."""

    shell_class = Type(GuestShell)

    async def do_execute(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a cell, with the wall clock that the request's metadata names, or else the real one.

        An error's message is cut in the reply as it is in the output; `rlm_cut` in the reply counts the bytes of output
        that were left out.
        """
        parent = self.get_parent()
        request = parent["header"]["msg_id"]
        with CELL.of(request):
            set_wall_clock(parent["metadata"].get(CLOCK))
            reply: dict[str, Any] = await super().do_execute(*args, **kwargs)
        reply["rlm_cut"] = ACCOUNTS.cut(request)
        if "evalue" in reply:
            reply["evalue"] = cut_text(reply["evalue"], MESSAGE_LIMIT)
        return reply

    @contextmanager
    def _cancel_on_sigint(self, future: "asyncio.Task[Any]") -> Iterator[None]:
        """End an async cell on SIGINT, whether it waits or works.

        The base only schedules the cancel, which a waiting event loop notices when it wakes up for something else.
        """
        loop = asyncio.get_running_loop()

        def interrupt(*_: Any) -> None:
            if asyncio.current_task(loop) is future:
                raise KeyboardInterrupt
            loop.call_soon_threadsafe(future.cancel)

        CELL.task = future
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def shorten(trace: TracebackType | None) -> tuple[TracebackType | None, int]:
    """Return a deep traceback with its middle left out, and how many frames that were."""
    chain = []
    while trace is not None:
        chain.append(trace)
        trace = trace.tb_next
    cut = len(chain) - 2 * FRAMES_KEPT
    if cut <= FRAMES_KEPT:
        return (chain[0] if chain else None), 0
    short: TracebackType | None = None
    for link in reversed(chain[:FRAMES_KEPT] + chain[-FRAMES_KEPT:]):
        short = TracebackType(short, link.tb_frame, link.tb_lasti, link.tb_lineno)
    return short, cut
