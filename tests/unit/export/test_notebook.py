"""Notebooks of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.sign import NotebookNotary

from rlm_kernel.events import CellOutput, CellOutputCleared, SubcallReplied, SubcallRequested
from rlm_kernel.types import Usage
from tests.unit.export.conftest import RUN, Export, Record, exported, run_of

KEPT = sorted((Path(__file__).parents[2] / "recordings").glob("*/*/events.jsonl"))


def read(text: str) -> Any:
    """Return a notebook that nbformat's own validator takes as it is."""
    notebook: Any = nbformat.reads(text, as_version=nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    return notebook


def code_cells(notebook: Any) -> list[Any]:
    """Return the code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(notebook: Any) -> str:
    """Return what the markdown cells say."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def stream(text: str) -> CellOutput:
    """Return a piece of standard output."""
    return CellOutput(cell=1, output={"output_type": "stream", "name": "stdout", "text": text})


def display(text: str, name: str | None = None, *, update: bool = False) -> CellOutput:
    """Return a display of plain text."""
    output: dict[str, Any] = {"output_type": "display_data", "data": {"text/plain": text}, "metadata": {}}
    return CellOutput(cell=1, output=output, display_id=name, update=update)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parts[-3]}-{path.parts[-2]}")
def test_kept_recordings_become_valid_notebooks(path: Path) -> None:
    """Of each version, with a code cell for each cell of the run's own session, twice the same."""
    text = exported(path, "ipynb")
    notebook = read(text)
    assert exported(path, "ipynb") == text
    records = [json.loads(line) for line in path.read_text().splitlines()]
    cells = [line["event"] for line in records if line["event"]["type"] == "CellStarted" and not line.get("node")]
    assert [cell.source for cell in code_cells(notebook)] == [cell["code"].removesuffix("\n") for cell in cells]
    about = notebook.metadata.rlm_kernel
    assert about.run == records[0]["event"]["run"]
    assert about.records == len(records)
    assert about.status == records[-1]["event"]["status"]


def test_a_cell_has_its_outputs_count_and_times(export: Export) -> None:
    """As Jupyter would have written them."""
    result: dict[str, Any] = {
        "output_type": "execute_result",
        "data": {"text/plain": "7"},
        "metadata": {},
        "execution_count": 3,
    }
    error: dict[str, Any] = {"output_type": "error", "ename": "E", "evalue": "no", "traceback": ["line 1", "E: no"]}
    notebook = read(
        export("ipynb", stream("a"), stream("b\n"), CellOutput(cell=1, output=result), CellOutput(cell=1, output=error))
    )
    (cell,) = code_cells(notebook)
    assert cell.execution_count == 1
    assert [output.output_type for output in cell.outputs] == ["stream", "execute_result", "error"]
    assert cell.outputs[0].text == "ab\n"
    assert cell.outputs[1].execution_count == 3
    times = cell.metadata.execution
    assert times["iopub.status.busy"] <= times["iopub.status.idle"]
    assert times["shell.execute_reply"].endswith("Z")
    assert cell.metadata.papermill.status == "completed"


def test_outputs_are_cleared_and_changed_as_in_a_notebook(export: Export) -> None:
    """At once, with the next output, and a display by a later one of its name; an update clears nothing."""
    cleared = read(export("ipynb", stream("1"), CellOutputCleared(cell=1), stream("2")))
    assert code_cells(cleared)[0].outputs[0].text == "2"
    waiting = [stream("1"), CellOutputCleared(cell=1, wait=True)]
    assert code_cells(read(export("ipynb", *waiting)))[0].outputs[0].text == "1"
    assert code_cells(read(export("ipynb", *waiting, stream("2"))))[0].outputs[0].text == "2"
    changed = [
        display("old", "a"),
        display("other"),
        display("mid", "a", update=True),
        display("new", "a", update=True),
    ]
    later = [*changed, display("after", "a")]
    outputs = code_cells(read(export("ipynb", *later)))[0].outputs
    assert [output.data["text/plain"] for output in outputs] == ["new", "other", "after"]


def test_calls_are_told_after_their_cell(export: Export) -> None:
    """Folded, with prompt, answer, tokens, cost and time."""
    asked = SubcallRequested(call="s1", cell=1, model="openai:mini", prompt="Which `colour`?\n\n</details>")
    replied = SubcallReplied(
        call="s1",
        text="Blue.",
        finish_reason="stop",
        usage=Usage(calls=1, input_tokens=1234, output_tokens=5, cost_usd=0.5),
        seconds=2.0,
        attempts=2,
        served_by="openai:mini",
    )
    notebook = read(export("ipynb", asked, replied))
    kinds = [cell.cell_type for cell in notebook.cells]
    told = notebook.cells[kinds.index("code") + 1].source
    for words in ("openai:mini", "1,234 tokens in", "USD 0.5", "2.0 s", "2 attempts", "Blue.", "Which `colour`?"):
        assert words in told
    assert told.count("<details>") == told.rsplit("```", 1)[1].count("</details>") == 2


def test_many_calls_go_on_in_cells_of_a_bounded_size(export: Export) -> None:
    """Each of which opens and closes all its folds."""
    events = [SubcallRequested(call=f"s{number}", cell=1, model="m", prompt="word " * 200) for number in range(1, 1001)]
    notebook = read(export("ipynb", *events))
    texts = [cell.source for cell in notebook.cells if "<details>" in cell.source]
    assert len(texts) > 5
    for text in texts:
        assert text.count("<details>") == text.count("</details>")
        assert len(text) < 110_000


def test_a_session_below_is_within_its_call_or_alone(tmp_path: Path) -> None:
    """Its cells are readable in place, and its own notebook has them as cells."""
    path = next(path for path in KEPT if path.parts[-2] == "children")
    whole = read(exported(path, "ipynb"))
    assert len(code_cells(whole)) == 1
    assert said(whole).count('context.count(".")') == 2
    alone = read(exported(path, "ipynb", node="s2"))
    assert code_cells(alone)[0].source == 'FINAL(context.count("."))'
    assert alone.metadata.rlm_kernel.node == "s2"
    assert {cell.id for cell in alone.cells}.isdisjoint(cell.id for cell in whole.cells)


def test_nobody_has_signed_it(export: Export, tmp_path: Path) -> None:
    """Jupyter takes it for untrusted, and no cell claims otherwise."""
    text = export("ipynb", stream("1"))
    notary: Any = NotebookNotary(data_dir=str(tmp_path), db_file=":memory:")  # type: ignore[no-untyped-call]
    notebook = read(text)
    assert not notary.check_signature(notebook)
    assert '"trusted"' not in text
    assert '"tags"' not in text
    notary.store.close()


def test_a_run_that_goes_on_has_the_same_ids_so_far(record: Record) -> None:
    """So that notebooks of a growing recording can be compared."""
    events = run_of(stream("1"))
    early, late = read(exported(record(events[:-3]), "ipynb")), read(exported(record(events), "ipynb"))
    assert code_cells(early)[0].id == code_cells(late)[0].id
    assert early.cells[0].id == late.cells[0].id
    assert early.metadata.rlm_kernel.status == "broken-off"
    assert "no end" in said(early)
    assert late.metadata.rlm_kernel.run == RUN
