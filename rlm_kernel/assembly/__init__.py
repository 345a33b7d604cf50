"""Puts the parts together."""

from rlm_kernel.assembly.contexts import Context
from rlm_kernel.assembly.rlm import RLM, RunResult

__all__ = ["RLM", "Context", "RunResult"]
