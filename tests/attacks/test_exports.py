"""Recordings whose texts want to be more than text in a document: to run, to fetch, to break out, to fill memory."""

from __future__ import annotations

import base64
import json
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rlm_kernel.events import (
    AnyEvent,
    CellFinished,
    CellOutput,
    CellStarted,
    KernelLost,
    Notice,
    QuestionFailed,
    RunFinished,
    SubcallFailed,
    SubcallRefused,
    SubcallReplied,
    SubcallRequested,
    ToolReplied,
    ToolRequested,
    TurnStarted,
)
from rlm_kernel.export.formats import Format
from rlm_kernel.export.prose import prose_html, prose_markdown
from rlm_kernel.export.tables import plain_table
from rlm_kernel.export.text import fenced, in_markdown, seen
from rlm_kernel.export.write import export_run
from rlm_kernel.types import JSON, Usage
from tests.support.markup import ALL, not_inert
from tests.unit.export.conftest import exported, run_of
from tests.unit.export.test_notebook import read

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
"""Takes HTML and everything of GitHub's but bare links, which fetch nothing; links to scripts too."""
MARKDOWN.validateLink = lambda url: True  # type: ignore[method-assign]
ACTIVE = [
    "text/html",
    "text/markdown",
    "text/latex",
    "text/plain",
    "image/svg+xml",
    "image/png",
    "application/javascript",
    "application/json",
    "application/pdf",
    "application/vnd.jupyter.widget-view+json",
    "application/vnd.plotly.v1+json",
    "x/<script>document.title='pwned'</script>",
]


def display(text: JSON, kinds: list[str] = ACTIVE) -> CellOutput:
    """Return a display that claims each type for the same text."""
    output: dict[str, JSON] = {
        "output_type": "display_data",
        "data": dict.fromkeys(kinds, text),
        "metadata": {"image/png": {"width": '1" onload="x', "height": 10**9}, "isolated": True, "text": text},
    }
    return CellOutput(cell=1, output=output)


def events_of(text: str) -> list[AnyEvent]:
    """Return a run that has `text` wherever it takes a text."""
    replied = SubcallReplied(
        call="s1",
        text=text,
        finish_reason=text,
        usage=Usage(calls=1, input_tokens=1),
        seconds=1,
        attempts=2,
        served_by=text,
    )
    in_cell: list[AnyEvent] = [
        CellOutput(cell=1, output={"output_type": "stream", "name": "stdout", "text": text}),
        CellOutput(cell=1, output={"output_type": "error", "ename": text, "evalue": text, "traceback": [text, text]}),
        display(text),
        display(f"<table><tr><td {text}>{text}</td></tr>{text}</table>", ["text/html"]),
        SubcallRequested(call="s1", cell=1, model=text, prompt=text),
        replied,
        SubcallRequested(call="s2", cell=1, model=text, prompt=text),
        SubcallFailed(call="s2", code="failed", error=text, message=text, seconds=1, told=text),
        SubcallRefused(call="s3", cell=1, reason=text, asked=text, prompt=text, prompt_length=1),
        ToolRequested(call="s4", cell=1, tool=text, arguments=text),
        ToolReplied(call="s4", result=text, seconds=1),
        Notice(message=text),
        KernelLost(generation=1, reason=text, lost=[text]),
        QuestionFailed(ask=1, error=text, message=text),
    ]
    texts = dict.fromkeys(("question", "answer", "model", "reply", "code"), text)
    return run_of(*in_cell, **texts, reasoning={"reasoning_content": text})


@pytest.fixture
def hostile(tmp_path: Path) -> list[Path]:
    """A recording for each of the texts, which has it everywhere, and one with all of them."""
    texts = [*ALL, "\n\n".join(ALL)]
    return [write(tmp_path, f"{number}.jsonl", events_of(text)) for number, text in enumerate(texts)]


def write(folder: Path, name: str, events: list[AnyEvent]) -> Path:
    """Write a recording."""
    path = folder / name
    lines = [
        json.dumps({"v": 1, "seq": seq, "at": 1.7e9 + seq, "event": msgspec.to_builtins(event)})
        for seq, event in enumerate(events)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_texts_would_do_harm(hostile: list[Path]) -> None:
    """As they are, most of them are found by what finds nothing in documents."""
    found = [text for text in ALL if any(not_inert(text)) or any(not_inert(MARKDOWN.render(text)))]
    assert len(found) > 0.8 * len(ALL)


def test_no_text_is_more_than_text_in_a_page(hostile: list[Path]) -> None:
    """There are our own tags and attributes alone, and each has its end."""
    for path in hostile:
        assert list(not_inert(exported(path, "html").removeprefix("<!doctype html>"))) == []


def test_no_text_is_more_than_text_in_markdown(hostile: list[Path]) -> None:
    """Rendered with HTML allowed: no link, no image, no tag that is not ours, each fold with its end."""
    for path in hostile:
        assert list(not_inert(MARKDOWN.render(exported(path, "md")))) == []


def test_no_text_is_more_than_text_in_a_notebook(hostile: list[Path]) -> None:
    """Its markdown cells and outputs rendered as if it were trusted; nothing of the active types is in it."""
    for path in hostile:
        for cell in read(exported(path, "ipynb")).cells:
            check_cell(cell)


def check_cell(cell: Any) -> None:
    """Check that a cell of a notebook is inert."""
    if cell.cell_type == "markdown":
        assert list(not_inert(MARKDOWN.render(cell.source))) == []
    assert set(cell.metadata) <= {"execution", "papermill", "rlm_kernel"}
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        assert set(data) <= {"text/plain", "text/markdown", "text/html"}
        assert list(not_inert(data.get("text/html", ""))) == []
        assert list(not_inert(MARKDOWN.render(data.get("text/markdown", "")))) == []
        assert set(output.get("metadata", {})) <= {"rlm_kernel"}


@settings(max_examples=150)
@given(st.lists(st.sampled_from([*ALL, *"\n `~*_[]()<>!#|$\\&:-+.1=\"'", "\n\n", "```", "    ", "a"]), max_size=12))
def test_no_mixture_of_them_is(pieces: list[str]) -> None:
    """Whatever stands beside whatever, in each of the ways in which documents take texts."""
    text = "".join(pieces)
    assert list(not_inert(prose_html(text))) == []
    for written in (prose_markdown(text), in_markdown(" ".join(seen(text).split())) + "\n"):
        rendered = MARKDOWN.render(f"<details><summary>x</summary>\n\n{written}\n</details>\n")
        assert list(not_inert(rendered)) == []
    assert MARKDOWN.render(f"{fenced(seen(text), 'text')}\n</details>\n").count("<pre>") == 1
    assert list(not_inert(plain_table(f"<table>{text}<td>{text}") or "")) == []


def test_what_claims_to_be_an_image_is_looked_at(tmp_path: Path) -> None:
    """Bad Base64, other bytes, too many pixels and too long headers are left out with a word; an image is an image."""
    good = small_png()
    wrong = ["%%%", "", "QQ==", "=", "A" * 99, base64.b64encode(b"<svg onload=x>").decode(), good[:12]]
    huge = base64.b64encode(base64.b64decode(good)[:16] + b"\xff" * 8).decode()
    for text in [*wrong, huge]:
        path = write(tmp_path, "wrong.jsonl", run_of(display(text, ["image/png"])))
        assert "data:image" not in exported(path, "html")
        assert "data:image" not in exported(path, "md")
        assert "image/png, left out" in exported(path, "html")
        (cell,) = [cell for cell in read(exported(path, "ipynb")).cells if cell.cell_type == "code"]
        assert list(cell.outputs[0].data) == ["text/plain"]
    path = write(tmp_path, "good.jsonl", run_of(display(good, ["image/jpeg"])))
    assert f'src="data:image/png;base64,{good}"' in exported(path, "html")


def test_deep_values_are_left_out(tmp_path: Path) -> None:
    """JSON that other programs could not read again does not get into a notebook."""
    deep: JSON = 1
    for _ in range(300):
        deep = [deep]
    path = write(tmp_path, "deep.jsonl", run_of(display(deep, ["application/json"]), display(deep, ["text/plain"])))
    for to in ("ipynb", "html", "md"):
        assert "application/json, left out" in exported(path, to)
    read(exported(path, "ipynb"))


def test_one_update_of_many_displays_fills_no_disk(tmp_path: Path) -> None:
    """What is written of updates has a limit for the whole document."""
    shown: dict[str, JSON] = {"output_type": "display_data", "data": {"text/plain": "x"}, "metadata": {}}
    large: dict[str, JSON] = {**shown, "data": {"text/plain": "y" * 2_000_000}}
    many = [CellOutput(cell=1, output=shown, display_id="a") for _ in range(200)]
    path = write(tmp_path, "update.jsonl", run_of(*many, CellOutput(cell=1, output=large, display_id="a", update=True)))
    text = exported(path, "md")
    assert len(text) < 30_000_000
    assert text.count("left out, as it is too large") > 100


@pytest.mark.parametrize("number", [10**30, -(10**30), 2**63, -1])
def test_numbers_of_any_size_are_told(tmp_path: Path, number: int) -> None:
    """Of cells, turns, counts, tokens and seconds; a notebook of them is valid."""
    result: dict[str, JSON] = {"output_type": "execute_result", "data": {}, "metadata": {}, "execution_count": number}
    usage = Usage(calls=number, input_tokens=number, output_tokens=number, cost_usd=1e308)
    path = write(
        tmp_path,
        "numbers.jsonl",
        [
            *run_of()[:2],
            TurnStarted(turn=number),
            CellStarted(cell=number, turn=number, code="1"),
            CellOutput(cell=number, output=result),
            SubcallRequested(call="s1", cell=number, model="m", prompt="?", images=[]),
            SubcallFailed(call="s1", code="x", error="E", message="m", seconds=-1e308, usage=usage),
            CellFinished(cell=number, status="ok", seconds=1e308, execution_count=number, cut=number),
            RunFinished(status="answered", answer="", seconds=1e308, turns=number, usage={"m": usage}),
        ],
    )
    for to in ("ipynb", "html", "md"):
        text = exported(path, to)
        assert "Turn" in text
    read(exported(path, "ipynb"))


@pytest.mark.parametrize("to", ["ipynb", "html", "md"])
def test_a_cell_of_any_number_of_calls_is_never_held(tmp_path: Path, to: Format) -> None:
    """Fifteen hundred calls, and no more memory than the index of the recording and a piece of the document."""
    asked = SubcallRequested(call="", cell=1, model="m", prompt="word " * 600)
    calls = [msgspec.structs.replace(asked, call=f"s{number}") for number in range(1_500)]
    path = write(tmp_path, "calls.jsonl", run_of(*calls))
    assert path.stat().st_size > 4_500_000
    tracemalloc.start()
    with (tmp_path / "out").open("wb") as file:
        export_run(path, file, to=to)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "out").stat().st_size > 4_500_000
    assert peak < 4_000_000


def small_png() -> str:
    """Return an image of one pixel, in Base64."""
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in [
            (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
            (b"IDAT", zlib.compress(b"\0\0")),
            (b"IEND", b""),
        ]
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + data).decode()
