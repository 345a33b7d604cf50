"""A session: a sandbox, its kernel and its bridge, as one."""

from rlm_kernel.session.session import Session, SessionSpec, check_fits, open_session

__all__ = ["Session", "SessionSpec", "check_fits", "open_session"]
