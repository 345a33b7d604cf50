"""Puts the parts together."""

from rlm_kernel.assembly.contexts import Context
from rlm_kernel.assembly.dialogue import Session, SessionInThread
from rlm_kernel.assembly.handle import RunHandle, RunInThread
from rlm_kernel.assembly.hooks import Hooks
from rlm_kernel.assembly.rerun.replay import ReplayReport
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.rlm import RLM

__all__ = [
    "RLM",
    "Context",
    "Hooks",
    "ReplayReport",
    "RunHandle",
    "RunInThread",
    "RunResult",
    "Session",
    "SessionInThread",
]
