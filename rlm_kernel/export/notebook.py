"""Parts as a Jupyter notebook (nbformat 4.5), written cell by cell."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from rlm_kernel.export.about import About
from rlm_kernel.export.markdown import as_markdown, left_out
from rlm_kernel.export.parts import Close, CodeCell, Heading, Open, Part
from rlm_kernel.export.prose import prose_markdown
from rlm_kernel.export.shown import Display, Failure, Shown, Stream
from rlm_kernel.export.told import instant
from rlm_kernel.types import JSON

_MOST_CHARACTERS = 100_000
"""A markdown cell that has as many ends with the part that passes them, and the next one goes on."""
_COMPLETED = {"ok": "completed", None: "running"}


def write_notebook(about: About, parts: Iterable[Part], write: Callable[[str], object]) -> None:
    """Write a notebook: the cells first, what is told of the run last."""
    write('{\n "cells": [')
    cells = _Cells(about, write)
    for part in parts:
        cells.add(part)
    cells.end()
    write("\n ],\n")
    rest = {"metadata": _metadata(about), "nbformat": 4, "nbformat_minor": 5}
    write(_pretty(rest)[2:] + "\n")


class _Cells:
    """Gathers parts into markdown cells, and writes each cell when it is whole."""

    def __init__(self, about: About, write: Callable[[str], object]) -> None:
        self._write_text = write
        self._id = hashlib.sha256(f"{about.started.run}\0{about.node.path}".encode()).hexdigest()[:8]
        self._code_cells = self._markdown_cells = 0
        self._texts: list[str] = []
        self._size = 0
        self._folds: list[str] = []

    def add(self, part: Part) -> None:
        """Take the next part. What is folded away has to be in markdown, the cells of sessions below too."""
        if isinstance(part, CodeCell) and not self._folds:
            self.end()
            self._code_cells += 1
            self._write(_code_cell(part, f"{self._id}-cell-{part.number % 10**9}-{part.record}"))
            return
        if isinstance(part, Heading) and not self._folds:
            self.end()
        elif self._size >= _MOST_CHARACTERS:
            self._go_on()
        self._append(as_markdown(part))
        if isinstance(part, Open):
            self._folds.append(part.summary)
        elif isinstance(part, Close):
            self._folds.pop()

    def end(self) -> None:
        """Write the markdown cell that is gathered, if there is one."""
        if self._texts:
            self._markdown_cells += 1
            source = "\n".join(self._texts).removesuffix("\n")
            cell_id = f"{self._id}-text-{self._markdown_cells}"
            self._write({"cell_type": "markdown", "id": cell_id, "metadata": {}, "source": _lines(source)})
            self._texts, self._size = [], 0

    def _go_on(self) -> None:
        """End a cell within folds, and open the same ones in the next."""
        for _ in self._folds:
            self._append(as_markdown(Close()))
        self.end()
        for summary in self._folds:
            self._append(as_markdown(Open(f"{summary} (continued)")))

    def _append(self, text: str) -> None:
        self._texts.append(text)
        self._size += len(text)

    def _write(self, cell: dict[str, Any]) -> None:
        first = self._code_cells + self._markdown_cells == 1
        text = _pretty(cell).replace("\n", "\n  ")
        self._write_text(f"{'' if first else ','}\n  {text}")


def _code_cell(cell: CodeCell, cell_id: str) -> dict[str, Any]:
    began, ended = instant(cell.started), instant(cell.finished) if cell.finished is not None else None
    execution = {"iopub.execute_input": began, "iopub.status.busy": began, "shell.execute_reply.started": began}
    if ended is not None:
        execution |= {"iopub.status.idle": ended, "shell.execute_reply": ended}
    count = cell.execution_count if cell.execution_count is not None and cell.execution_count >= 0 else None
    return {
        "cell_type": "code",
        "execution_count": count,
        "id": cell_id,
        "metadata": {
            "execution": execution,
            "papermill": {
                "duration": cell.seconds,
                "end_time": ended,
                "exception": None if cell.status is None else cell.status != "ok",
                "start_time": began,
                "status": _COMPLETED.get(cell.status, "failed"),
            },
            "rlm_kernel": {"cell": cell.number, "turn": cell.turn, "status": cell.status, "record": cell.record},
        },
        "outputs": [_output(output, count or 0) for output in cell.outputs],
        "source": _lines(cell.code.removesuffix("\n")),
    }


def _output(output: Shown, count: int) -> dict[str, Any]:
    match output:
        case Stream():
            return {"name": output.name, "output_type": "stream", "text": _lines(output.text)}
        case Failure():
            return {
                "ename": output.ename,
                "evalue": output.evalue,
                "output_type": "error",
                "traceback": output.traceback,
            }
        case Display():
            return _display(output, count)


def _display(output: Display, count: int) -> dict[str, Any]:
    missing = left_out(output)
    data: dict[str, JSON] = {}
    metadata: dict[str, Any] = {"rlm_kernel": {"left_out": missing}} if missing else {}
    for picture in output.pictures:
        data[picture.media_type] = picture.data
        sides = {"width": picture.width, "height": picture.height}
        if any(sides.values()):
            metadata[picture.media_type] = {side: value for side, value in sides.items() if value}
    if output.table is not None:
        data["text/html"] = [output.table]
    if output.markdown is not None:
        data["text/markdown"] = _lines(prose_markdown(output.markdown))
    if output.text is not None or not data:
        data["text/plain"] = _lines(output.text if output.text is not None else f"[{'; '.join(missing)}]")
    if output.is_result:
        shown = output.count if output.count is not None else count
        return {"data": data, "execution_count": shown, "metadata": metadata, "output_type": "execute_result"}
    return {"data": data, "metadata": metadata, "output_type": "display_data"}


def _metadata(about: About) -> dict[str, Any]:
    ended = about.ended_at
    python = about.sandbox.packages.get("python") if about.sandbox else None
    return {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"}
        | ({"version": python} if python else {}),
        "papermill": {
            "duration": about.finished.seconds if about.finished else None,
            "end_time": None if ended is None else instant(ended),
            "exception": None if about.finished is None else about.finished.error is not None,
            "start_time": instant(about.at),
        },
        "rlm_kernel": about.metadata(),
    }


def _lines(text: str) -> list[JSON]:
    return [*text.splitlines(keepends=True)]


def _pretty(value: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
