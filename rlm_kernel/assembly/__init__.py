"""Puts the parts together."""

from rlm_kernel.assembly.rlm import RLM, Context, RunResult

__all__ = ["RLM", "Context", "RunResult"]
