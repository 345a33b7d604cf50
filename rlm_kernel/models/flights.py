"""Identical calls that are made at the same time, as one."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from rlm_kernel.errors import ModelError
from rlm_kernel.loops import soon
from rlm_kernel.models.model import Completion

_Outcome: TypeAlias = Completion | Exception | None
_Follower: TypeAlias = tuple[asyncio.AbstractEventLoop, "asyncio.Future[_Outcome]"]


@dataclass(slots=True)
class _Flight:
    owner: object
    run: str
    followers: list[_Follower] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Joined:
    """An answer, and the run that asked for it if it was another call's."""

    completion: Completion
    run: str | None


class Flights:
    """The calls under way, by key. The first one asks; those with its key that come meanwhile get its answer or error.

    Each is cancelled alone: if the one that asks is, another one of them asks instead, and with the last one ends the
    request. Threads and event loops may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight] = {}

    async def join(self, key: str, ask: Callable[[], Awaitable[Completion]], *, owner: object, run: str) -> Joined:
        """Return the answer of `ask`, or of an equal call.

        An error that is no model's, and a reply with a note, as it was cut off for a budget, are shared with `owner`
        alone.
        """
        while True:
            with self._lock:
                flight = self._flights.get(key)
                if flight is None:
                    flight = self._flights[key] = _Flight(owner, run)
                    follower = None
                else:
                    loop = asyncio.get_running_loop()
                    follower = loop, loop.create_future()
                    flight.followers.append(follower)
            if follower is None:
                return Joined(await self._lead(key, flight, ask), None)
            outcome = await follower[1]
            if isinstance(outcome, Completion) and (flight.owner is owner or not outcome.note):
                return Joined(outcome, flight.run)
            if isinstance(outcome, ModelError) or (isinstance(outcome, Exception) and flight.owner is owner):
                raise _again(outcome)

    async def _lead(self, key: str, flight: _Flight, ask: Callable[[], Awaitable[Completion]]) -> Completion:
        outcome: _Outcome = None
        try:
            completion = outcome = await ask()
        except Exception as error:  # whatever it is, those who wait for this answer are told
            outcome = error
            raise
        else:
            return completion
        finally:
            with self._lock:
                del self._flights[key]
            for loop, future in flight.followers:
                soon(loop, _settle, future, outcome)


def _settle(future: asyncio.Future[_Outcome], outcome: _Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


def _again(error: Exception) -> Exception:
    """Return a copy that many can raise; what the call cost is its first caller's."""
    again = copy.copy(error)
    if isinstance(again, ModelError):
        again.usage = None
    return again
