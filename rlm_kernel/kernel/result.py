"""What running one cell gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlm_kernel.events import CellStatus
from rlm_kernel.types import JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """An answer that a cell gave: through `FINAL(value)`, `FINAL_VAR(name)` or `answer["ready"] = True`."""

    value: JSON
    source: Literal["FINAL", "FINAL_VAR", "answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """One cell's outcome. A failing cell is a value of this kind, a failing machine is an exception.

    `outputs` are shaped as nbformat 4.5 outputs, in order; successive text of one stream is one output. An error is
    among them too, its traceback free of terminal colours. `cut` counts the bytes of output that were left out.
    `lost` names the variables that went with the kernel, or is None where the kernel lives on. `rebuilt` names those
    that are there again, and `not_rebuilt` says why the others are not; None where nothing was tried, or all came back.
    `files_lost`: since the cell before, the files that cells wrote have gone with the kernel or its container.
    """

    cell: int
    status: CellStatus
    seconds: float
    outputs: tuple[dict[str, JSON], ...] = ()
    execution_count: int | None = None
    ename: str | None = None
    evalue: str | None = None
    cut: int = 0
    final: Final | None = None
    lost: tuple[str, ...] | None = None
    rebuilt: tuple[str, ...] = ()
    not_rebuilt: str | None = None
    files_lost: bool = False
