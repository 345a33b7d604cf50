"""A runtime for Recursive Language Models (arXiv 2512.24601)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm_kernel.version import __version__

if TYPE_CHECKING:
    from rlm_kernel.assembly import (
        RLM,
        Hooks,
        ReplayReport,
        RunHandle,
        RunInThread,
        RunResult,
        Session,
        SessionInThread,
    )
    from rlm_kernel.assembly.jobs import NodeResult, arun_job, run_job
    from rlm_kernel.config import Settings
    from rlm_kernel.errors import RlmKernelError
    from rlm_kernel.export.write import export_run
    from rlm_kernel.recording import REDACTED, RunSummary, summaries
    from rlm_kernel.sandbox.given import Contexts, Json, JsonLines, Table
    from rlm_kernel.tools import ToolError

__all__ = [
    "REDACTED",
    "RLM",
    "Contexts",
    "Hooks",
    "Json",
    "JsonLines",
    "NodeResult",
    "ReplayReport",
    "RlmKernelError",
    "RunHandle",
    "RunInThread",
    "RunResult",
    "RunSummary",
    "Session",
    "SessionInThread",
    "Settings",
    "Table",
    "ToolError",
    "__version__",
    "arun_job",
    "export_run",
    "run_job",
    "summaries",
]

_HOMES = {
    "REDACTED": "rlm_kernel.recording",
    "RunSummary": "rlm_kernel.recording",
    "summaries": "rlm_kernel.recording",
    "Contexts": "rlm_kernel.sandbox.given",
    "Json": "rlm_kernel.sandbox.given",
    "JsonLines": "rlm_kernel.sandbox.given",
    "Table": "rlm_kernel.sandbox.given",
    "ToolError": "rlm_kernel.tools",
    "RLM": "rlm_kernel.assembly",
    "Hooks": "rlm_kernel.assembly",
    "ReplayReport": "rlm_kernel.assembly",
    "RunHandle": "rlm_kernel.assembly",
    "RunInThread": "rlm_kernel.assembly",
    "RunResult": "rlm_kernel.assembly",
    "Session": "rlm_kernel.assembly",
    "SessionInThread": "rlm_kernel.assembly",
    "Settings": "rlm_kernel.config",
    "RlmKernelError": "rlm_kernel.errors",
    "NodeResult": "rlm_kernel.assembly.jobs",
    "arun_job": "rlm_kernel.assembly.jobs",
    "export_run": "rlm_kernel.export.write",
    "run_job": "rlm_kernel.assembly.jobs",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that a part of the package loads without the rest."""
    from importlib import import_module  # noqa: PLC0415

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
