"""Where exports go, and what of a recording that is not whole."""

from __future__ import annotations

import json
import resource
import stat
from pathlib import Path

import pytest

import rlm_kernel
from rlm_kernel.errors import ConfigError
from rlm_kernel.events import SubcallRequested
from rlm_kernel.export.formats import Format
from rlm_kernel.recording import EVENTS_FILE, Recording, RecordingLog
from tests.unit.cli.conftest import RunCommand, command
from tests.unit.export.conftest import RUN, Record, exported, run_of

__all__ = ["command"]
CHILDREN = Path(__file__).parents[2] / "recordings" / "v1" / "children"


def test_the_file_is_named_for_the_run_and_private(tmp_path: Path, record: Record) -> None:
    """In a folder; what a name ends with is the format; nothing else is left there."""
    path = record(run_of())
    folder = tmp_path / "out"
    folder.mkdir()
    exports = [
        rlm_kernel.export_run(path.parent, folder),
        rlm_kernel.export_run(path, folder / "x.html"),
        rlm_kernel.export_run(str(path), folder, to="md"),
    ]
    names = [f"{RUN}.ipynb", "x.html", f"{RUN}.md"]
    assert [one.path for one in exports] == [folder / name for name in names]
    assert sorted(file.name for file in folder.iterdir()) == sorted(names)
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert (folder / "x.html").read_text().startswith("<!doctype html>")


def test_a_file_that_is_there_stays(tmp_path: Path, record: Record) -> None:
    """Unless it is to be replaced; what is no file never is."""
    path, output = record(run_of()), tmp_path / "out.md"
    output.write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        rlm_kernel.export_run(path, output)
    assert output.read_text() == "mine"
    rlm_kernel.export_run(path, output, force=True)
    assert RUN in output.read_text()
    for place in (Path("/dev/null"), tmp_path / "none" / "out.md"):
        with pytest.raises(ConfigError):
            rlm_kernel.export_run(path, place, to="md", force=True)
    (tmp_path / "link.md").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="no ordinary file"):
        rlm_kernel.export_run(path, tmp_path / "link.md", force=True)


def test_a_file_is_there_whole_or_not(tmp_path: Path, record: Record) -> None:
    """Where there is no room for the rest there is neither it nor a part of it, and the one that was there stays."""
    path, folder = record(run_of(question="word " * 100_000)), tmp_path / "out"
    folder.mkdir()
    (folder / "x.md").write_text("mine")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        for output, force in (("x.md", True), ("y.md", False)):
            with pytest.raises(ConfigError, match="File too large"):
                rlm_kernel.export_run(path, folder / output, force=force)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("x.md", "mine")]


@pytest.mark.parametrize("to", ["ipynb", "md", "html"])
def test_a_record_that_is_none_ends_the_document(record: Record, to: Format, tmp_path: Path) -> None:
    """Though its line is in place: what stands before it is there, and the document is whole."""
    asked = SubcallRequested(call="s1", cell=1, model="m", prompt="Which one?")
    path = tmp_path / "wrong.jsonl"
    with Recording(record(run_of(asked, asked))) as whole:
        lines = [json.loads(whole.line(seq)) for seq in range(len(whole))]
    lines[7]["event"]["prompt"] = 7
    path.write_text("".join(json.dumps({**line, "v": 1}) + "\n" for line in lines))
    output = tmp_path / f"out.{to}"
    exported = rlm_kernel.export_run(path, output)
    assert exported.damage is not None
    assert "line 8" in exported.damage
    text = output.read_text()
    assert "Which one?" in text
    assert "damaged" in text
    assert text.count("<details>") == text.count("</details>") > 0


@pytest.mark.parametrize("to", ["ipynb", "md", "html"])
def test_a_damaged_recording_is_written_as_far_as_it_goes(record: Record, to: Format) -> None:
    """With a word in the document; of a torn or unfinished one too."""
    path = record(run_of(answer="the very end"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:6], b"{broken\n", *lines[7:]]))
    text = exported(path, to)
    assert "damaged" in text
    assert "print(1)" in text
    assert "the very end" not in text
    path.write_bytes(b"".join(lines[:6]) + b'{"v":2,')
    assert "torn" in exported(path, to)
    assert "broken off" in exported(path, to)


def test_a_run_that_goes_on_is_said_to(tmp_path: Path) -> None:
    """As long as its recording is being written; then it was broken off."""
    with RecordingLog(tmp_path, RUN) as log:
        for event in run_of()[:6]:
            log.emit(event)
        assert "still goes on" in exported(log.path, "html")
    assert "was broken off" in exported(log.path, "html")


def test_records_are_as_they_are() -> None:
    """Line by line; of a session, its own and those below it."""
    path = CHILDREN / EVENTS_FILE
    assert exported(path, "jsonl") == path.read_text()
    lines = exported(path, "jsonl", node="s1").splitlines()
    assert {json.loads(line)["node"] for line in lines} == {"s1"}
    with pytest.raises(ConfigError, match="shorten"):
        exported(path, "jsonl", shorten=5)


def test_texts_are_whole_unless_they_are_to_be_shorter(record: Record) -> None:
    """Cut with the number of characters that are missing; code is not cut."""
    path = record(run_of(question="q" * 5000, code="c" * 5000, reply="r" * 5000))
    whole, short = exported(path, "md"), exported(path, "md", shorten=100)
    assert all(letter * 5000 in whole for letter in "qcr")
    assert "q" * 101 not in short
    assert "4,900 more characters" in short
    assert "c" * 5000 in short


def test_the_command_says_where_and_what_is_missing(command: RunCommand, tmp_path: Path, record: Record) -> None:
    """The file's name on standard output, warnings on standard error, status 18 for damage."""
    path, output = record(run_of()), tmp_path / "x.ipynb"
    done = command("export", str(path.parent), "-o", str(output))
    assert (done.status, done.out, done.err) == (0, f"{output}\n", "")
    again = command("export", str(path.parent), "-o", str(output))
    assert (again.status, again.out) == (2, "")
    piped = command("export", str(path), "--to", "jsonl", "-o", "-")
    assert (piped.status, piped.out) == (0, path.read_text())
    path.write_bytes(path.read_bytes().replace(b'"seq":5', b'"seq":9'))
    damaged = command("export", str(path), "-o", str(output), "--force")
    assert (damaged.status, damaged.out) == (18, f"{output}\n")
    assert "damaged" in damaged.err
    assert json.loads(output.read_text())["metadata"]["rlm_kernel"]["damage"]
