"""`Cells`: a session's cells as the controller runs them."""

from __future__ import annotations

from rlm_kernel.kernel.result import CellResult
from rlm_kernel.session import Seat, Session


class Cells:
    """Runs a session's cells, and knows whether it still can; `lost` is why it can't."""

    def __init__(self, session: Session, seat: Seat) -> None:
        self.session = session
        self.lost: BaseException | None = None
        self._seat = seat

    async def run_cell(self, code: str, *, turn: int) -> CellResult:
        """Run one cell, as `Session.run_cell` does; return once the session has its seat and nothing below goes on."""
        try:
            result = await self.session.run_cell(code, turn=turn)
        except BaseException as error:  # after any, a cancel too, the session can't be used
            self.lost = error
            raise
        await self._seat.ready()
        return result
