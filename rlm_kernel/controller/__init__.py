"""The RLM loop: a root model drives cells to an answer."""

from rlm_kernel.controller.loop import Controller
from rlm_kernel.controller.ports import AnswerCheck, CellRunner, ContextSummary, ControllerLimits, Outcome

__all__ = ["AnswerCheck", "CellRunner", "ContextSummary", "Controller", "ControllerLimits", "Outcome"]
