"""What a document tells of a run."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_kernel.events import (
    AnyEvent,
    BudgetSpent,
    CellInterrupted,
    CellOutput,
    CellOutputCleared,
    ContextChunked,
    HistoryCompacted,
    KernelLost,
    KernelReady,
    KernelRebuilt,
    ModelRetried,
    Notice,
    RunStarted,
    SubcallFailed,
    SubcallReplied,
    SubcallRequested,
    ToolFailed,
    ToolRequested,
    WentLive,
)
from rlm_kernel.export.prose import prose_html, prose_markdown
from rlm_kernel.export.tables import plain_table
from rlm_kernel.types import Origin, Usage
from tests.unit.export.conftest import Export, Record, exported, run_of
from tests.unit.export.test_notebook import read

FRAME = """<div><style scoped>.dataframe tbody { color: red }</style><table border="1" class="dataframe">
<thead><tr style="text-align: right;"><th></th><th>city</th></tr></thead>
<tbody><tr><th>0</th><td>Kyiv &amp; Lviv</td></tr></tbody></table><p>1 row, 1 column</p></div>"""


def test_what_happened_beside_is_told_in_words(export: Export) -> None:
    """Each event in its place, for every format."""
    events: list[tuple[AnyEvent, str]] = [
        (Notice(message="A note for people"), "A note for people"),
        (BudgetSpent(limit="max_cost", used=1, allowed=1, message="The money is spent"), "The money is spent"),
        (ModelRetried(call="m2", attempt=1, error="RateLimited", message="slow down", wait=2), "slow down"),
        (KernelLost(generation=1, reason="memory was full", lost=["x", "y"]), "These variables are gone: x, y"),
        (KernelReady(generation=2, context_type="str", context_length=1), "Kernel 2 is ready"),
        (KernelRebuilt(generation=2, cells=[1, 2], names=["x"], seconds=1), "2 cells were run again"),
        (CellInterrupted(cell=1, step="sigint", reason="timed_out", seconds=3), "because of its time limit"),
        (
            ContextChunked(cell=1, strategy="lines", chunks=2, characters=9, shortest=4, longest=5, size=5, overlap=0),
            "into 2 pieces of 4 to 5",
        ),
        (HistoryCompacted(tokens=999, window=None, removed=4, kept=2, summary="So far so good", by_model=True), "good"),
        (WentLive(turn=1, cells=3, answers=7, seconds=1, differences=["cell 2"]), "3 cells ran again with 7 recorded"),
    ]
    for to in ("md", "html", "ipynb"):
        text = export(to, *(event for event, _ in events))
        assert [words for _, words in events if words not in text] == []


def test_a_call_tells_how_it_ended(export: Export) -> None:
    """Where an answer is from, how often it was tried again, what the cell was told of a failure."""
    asked = SubcallRequested(call="s1", cell=1, model="m", prompt="?")
    origin = Origin(how="stored", run="another-run", at="2026-01-01T00:00:00Z")
    replied = SubcallReplied(
        call="s1", text="!", finish_reason="length", usage=Usage(), seconds=1, attempts=0, served_by="m", cached=origin
    )
    text = export(
        "html",
        *(asked, ModelRetried(call="s1", attempt=1, error="E", message="m", wait=1), replied),
        SubcallRequested(call="s2", cell=1, model="m", prompt="?"),
        SubcallFailed(call="s2", code="failed", error="ModelRejected", message="no", seconds=1, told="Not today."),
        ToolRequested(call="s3", cell=1, tool="look_up", arguments='{"a": 1}'),
        ToolFailed(call="s3", code="failed", error="KeyError", message="a", seconds=1, told="It failed."),
        SubcallRequested(call="s4", cell=1, model="m", prompt="?"),
    )
    for words in (
        "stored answer of another-run, 2026-01-01T00:00:00Z",
        "an attempt failed before",
        "ended: length",
        "failed: ModelRejected",
        "The cell was told: Not today.",
        "look_up({&quot;a&quot;: 1})",
        "failed: KeyError",
        "It has no end here.",
    ):
        assert words in text


def test_thinking_is_folded_and_cells_are_not_repeated(export: Export) -> None:
    """What the provider sends back unread stays out of the document."""
    reply = (
        "<think>Hmm, hmm.</think>\nI *look* first.\n\n```repl\nprint(1)\n```\n\nAnd an example:\n\n```python\nx\n```"
    )
    reasoning = [
        {"type": "thinking", "thinking": "Step by step.", "signature": "c2lnbmVk"},
        {"type": "redacted_thinking", "data": "ZW5jcnlwdGVk"},
        {"type": "text", "text": "I look first."},
    ]
    text = export("md", reply=reply, reasoning=reasoning)
    folded = text.partition("<details><summary>Thinking</summary>")[2].partition("</details>")[0]
    assert "Hmm, hmm." in folded
    assert "Step by step." in folded
    assert "c2lnbmVk" not in text
    assert "ZW5jcnlwdGVk" not in text
    assert text.count("print(1)") == 1
    assert "I *look* first." in text
    assert "```python\nx\n```" in text


def test_sessions_in_sessions_end_somewhere(record: Record) -> None:
    """Six levels deep there is a word on how to export the next one alone."""
    events: list[tuple[AnyEvent, str]] = []
    for depth in range(12):
        node = "/".join(["s1"] * depth)
        start = run_of()[:6]
        assert isinstance(start[0], RunStarted)
        events += [(event, node) for event in start]
        events.append((SubcallRequested(call="s1", cell=1, model="m", prompt=f"level {depth}?", kind="rlm"), node))
    path = record([])
    path.write_bytes(b"")
    text = exported(nested(path, events), "md")
    assert "level 6?" in text
    assert "level 7?" not in text
    assert "--node s1/s1/s1/s1/s1/s1/s1 exports" in text
    assert text.count("<details>") == text.count("</details>")
    assert "level 11?" in exported(path, "md", node="/".join(["s1"] * 7))


def nested(path: Any, events: list[tuple[AnyEvent, str]]) -> Any:
    """Write events of several sessions."""
    lines = [
        {"v": 1, "seq": seq, "at": 1.0, "event": msgspec.to_builtins(event), "node": node}
        for seq, (event, node) in enumerate(events)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_prose_keeps_its_form() -> None:
    """Headings, lists, emphasis and code are as they were; what follows in a list stays in it."""
    listed = "1. **first** `a*b`\n\n   - inner\n\n     ```sql\n     select 1\n     ```\n\n2. second\n\n"
    text = f"# Plan\n\n{listed}> said\n> more\n\n5 * 3 < 20"
    written = prose_markdown(text)
    assert written == f"#### Plan\n\n{listed}> said\n> more\n\n5 \\* 3 \\< 20\n"
    assert prose_markdown(written) == written.replace("#### ", "###### ")
    page = prose_html(text)
    assert "<strong>first</strong> <code>a*b</code>" in page
    assert "5 * 3 &lt; 20" in page


def test_prose_keeps_its_tables() -> None:
    """No bar of a cell ends it: code with one is text, as not all readers take an escaped one for part of it."""
    text = "- x\n\n  a | b\n  :-- | --:\n  `x` **y** | 1 \\| 2\n  `z\\|![i](j)` |\n"
    written = prose_markdown(text)
    assert written == (
        "- x\n\n  | a | b |\n  | --- | --- |\n  | `x` **y** | 1 \\| 2 |\n  | z\\|\\!\\[i\\](j) |  |\n".replace(
            "\\!", "!"
        )
    )
    assert prose_markdown(written) == written
    assert "<th>a</th>" in prose_html(text)


def test_a_data_frame_is_a_table() -> None:
    """Its cells and headers without style, class or script."""
    table = plain_table(FRAME)
    assert table is not None
    assert "<th>city</th>" in table
    assert "<td>Kyiv &amp; Lviv</td>" in table
    assert "1 row, 1 column" in table
    assert "color" not in table
    assert "class" not in table
    assert plain_table("<b>no table</b>") is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(["text/plain", "text/html", "text/markdown", "image/png", "image/svg+xml", "application/json"])
OUTPUTS = st.fixed_dictionaries(
    {"output_type": st.sampled_from(["stream", "display_data", "execute_result", "error", "x"])},
    optional={
        "name": st.sampled_from(["stdout", "stderr", "x"]) | VALUES,
        "text": VALUES,
        "data": st.dictionaries(KINDS | st.text(max_size=5), VALUES, max_size=3) | VALUES,
        "metadata": VALUES,
        "execution_count": VALUES,
        "ename": VALUES,
        "evalue": VALUES,
        "traceback": VALUES,
    },
)
ONE = st.just(1)
CELL_EVENTS = st.one_of(
    st.builds(
        CellOutput, cell=st.just(1), output=OUTPUTS, display_id=st.sampled_from([None, "a"]), update=st.booleans()
    ),
    st.builds(CellOutputCleared, cell=ONE, wait=st.booleans()),
    st.builds(SubcallRequested, call=st.sampled_from(["s1", "s2"]), cell=ONE, model=st.text(), prompt=st.text()),
    st.builds(
        SubcallFailed, call=st.just("s1"), code=st.text(), error=st.text(), message=st.text(), seconds=st.floats(0, 9)
    ),
    st.builds(Notice, message=st.text()),
)


@settings(max_examples=60)
@given(events=st.lists(CELL_EVENTS, max_size=8), cut=st.integers(0, 3), text=st.text())
def test_any_recording_is_a_valid_notebook(tmp_path_factory: Any, events: list[AnyEvent], cut: int, text: str) -> None:
    """Whatever outputs hold and wherever the recording ends."""
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    whole = run_of(*events, question=text, answer=text, reply=text, code=text)
    nested(path, [(event, "") for event in whole[: len(whole) - cut]])
    read(exported(path, "ipynb"))
    exported(path, "html")
