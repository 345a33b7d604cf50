"""`Cells`: a session's cells, as a run that may go on after a cancel has them run."""

from __future__ import annotations

import asyncio

from rlm_kernel.assembly.rerun.played import PlayedSession
from rlm_kernel.kernel.result import CellResult
from rlm_kernel.session import Seat, Session

STOP_SECONDS = 5.0
"""How long a cell that is stopped has to end, before its sandbox is given up; the steps that end it take 1.4 s."""


class Cells:
    """Runs a session's cells, and knows whether it still can; `lost` is why it can't.

    With `stop_first` a cancel stops the running cell as its time limit would, and waits for its end, so that the
    session, its variables too, can be used on. Otherwise a cancel costs the session. `played` is what leads
    it where its cells run again.
    """

    def __init__(self, session: Session, seat: Seat, *, stop_first: bool, played: PlayedSession | None = None) -> None:
        self.session = session
        self.lost: BaseException | None = None
        self._seat = seat
        self._stop_first = stop_first
        self._played = played

    async def run_cell(self, code: str, *, turn: int) -> CellResult:
        """Run one cell, as `Session.run_cell` does; return once the session has its seat and nothing below goes on."""
        if self._played is not None:
            self._played.before_cell(self.session.cells + 1)
        result = await (self._stopped_first(code, turn) if self._stop_first else self._run(code, turn))
        if self._played is not None:
            await self._played.after_cell(self.session.cells, result)
        return result

    async def _run(self, code: str, turn: int) -> CellResult:
        try:
            result = await self.session.run_cell(code, turn=turn)
        except BaseException as error:  # after any, a cancel too, the session can't be used
            self.lost = error
            raise
        await self._seat.ready()
        return result

    async def _stopped_first(self, code: str, turn: int) -> CellResult:
        running = asyncio.ensure_future(self._run(code, turn))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self.session.interrupt()
            await asyncio.wait({running}, timeout=STOP_SECONDS)
            raise
        finally:
            running.cancel()
            await asyncio.wait({running})
            if not running.cancelled():
                running.exception()  # seen, whether it is raised or the cancel is
