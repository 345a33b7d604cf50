"""A session: a sandbox, its kernel and its bridge, as one; and the pool that sandboxes come from."""

from rlm_kernel.session.answers import Answers, Asking, CallKey, Played, PlayedCell, digest
from rlm_kernel.session.pool import SlotPool
from rlm_kernel.session.seats import Seat, Seats
from rlm_kernel.session.session import Session, SessionSpec, check_fits, open_session

__all__ = [
    "Answers",
    "Asking",
    "CallKey",
    "Played",
    "PlayedCell",
    "Seat",
    "Seats",
    "Session",
    "SessionSpec",
    "SlotPool",
    "check_fits",
    "digest",
    "open_session",
]
