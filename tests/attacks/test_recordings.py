"""Recordings that mean harm, and every reader of recordings: a clear error or a partial reading, in bounded time."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_kernel.assembly.rerun.recorded import recorded_settings
from rlm_kernel.assembly.rerun.replay import ReplayReport
from rlm_kernel.bridge import KnownFailure
from rlm_kernel.cli.export_chat import OUTCOMES
from rlm_kernel.cli.replay_report import report_json, report_lines
from rlm_kernel.cli.runs.branches import branch_json, tree_lines
from rlm_kernel.cli.runs.facts import facts
from rlm_kernel.cli.runs.show import _head
from rlm_kernel.config import Settings
from rlm_kernel.errors import RecordingDamaged, RlmKernelError
from rlm_kernel.export.chat import Chosen
from rlm_kernel.export.chat_file import export_chat
from rlm_kernel.export.formats import FORMATS, Format
from rlm_kernel.export.write import export_run
from rlm_kernel.recording import Following, Recording, read_events, summarise, verify
from rlm_kernel.recording.bundle.pack import Packing, write_bundle
from rlm_kernel.recording.compare.runs import compare_runs
from rlm_kernel.recording.reader import MOST_VALUES, holds_too_many
from rlm_kernel.recording.tape import Tape
from rlm_kernel.recording.tree import Opened, call_tree
from rlm_kernel.recording.used import used_by
from tests.attacks.conftest import memory_bound
from tests.support import hostile_recordings as corpus

SOON = 10.0
"""Seconds of the processor that any of them may take, on a machine that is slow and busy."""


def all_of(recording: Recording) -> None:
    """Read all that an index knows."""
    for node in recording.nodes.values():
        for question in node.questions:
            for turn in question.turns:
                for seq in [turn.started, *(cell.started for cell in turn.cells)]:
                    recording.event(seq)
    assert recording.started.run is not None
    assert recording.contexts() is not None
    assert len(list(recording.records())) <= len(recording)


def indexed(path: Path, state: Path) -> None:
    with Recording(path) as recording:
        all_of(recording)


def partly(path: Path, state: Path) -> None:
    with Recording(path, partial=True) as recording:
        all_of(recording)


def packed(path: Path, state: Path) -> None:
    with tempfile.TemporaryFile() as file:
        write_bundle(path, file, Packing(store=state / "contexts"))


def exported(to: Format) -> Callable[[Path, Path], None]:
    def read(path: Path, state: Path) -> None:
        with tempfile.TemporaryFile() as file:
            export_run(path, file, to=to)

    return read


def trained_on(path: Path, state: Path) -> None:
    with tempfile.TemporaryFile() as file:
        export_chat([path], file, Chosen(level="all", outcomes=frozenset(OUTCOMES)))


def shown(path: Path, state: Path) -> None:
    with Recording(path, partial=True) as recording:
        for opened in (Opened(full=True), Opened()):
            tree = call_tree(recording, opened)
            told = facts(recording, tree.sums)
            assert json.dumps(told | {"tree": branch_json(tree)})
            assert list(tree_lines(tree))
        assert list(_head(told, full=True))


def taped(path: Path, state: Path) -> None:
    """Read all that a replay, a resumed run and a fork read, without running any of it."""
    with Recording(path) as recording:
        used_by(recording)
        tape = Tape(recording)
        for node in map(tape.node, recording.nodes):
            if node is None:
                continue
            assert node.spent is not None
            assert node.seed is None or node.profile is None or node.origin
            for number, question in enumerate(node.questions):
                node.asks(number)
                for asked in question.asked:
                    with suppress(RlmKernelError):
                        node.reply(asked)
            for number in recording.nodes[node.path].cells:
                if (place := node.place(number)) is not None:
                    if place.finished is not None:
                        node.ended(place)
                    for call in node.cell(number).calls:
                        node.may_be(call, call.key, "any text")
                        if call.call.ended is not None:
                            with suppress(RlmKernelError, KnownFailure):
                                node.answer(call)


def compared(path: Path, state: Path) -> None:
    """Compare a recording with itself and with a sound one, and write what comes of it."""
    sound = Path(__file__).parents[1] / "recordings" / "v1" / "session" / "events.jsonl"
    with Recording(path) as one, Recording(sound) as other:
        for then, now in ((one, one), (one, other), (other, one)):
            found = compare_runs(then, now)
            report = ReplayReport(run=then.started.run, replay="r", recording=None, comparison=found)
            assert json.dumps(report_json(report))
            assert not set("".join(report_lines(report, verbose=True))) & set("\x07\r\x9b\u202e")


def settled(path: Path, state: Path) -> None:
    """Read what of a recording's settings counts where it is run again."""
    with Recording(path) as recording:
        recorded_settings(recording, Settings())


async def followed(path: Path, state: Path) -> None:
    following = Following()
    following.begin(path)
    following.end()
    async for _ in following.records():
        pass


READERS: dict[str, Callable[[Path, Path], Any]] = {
    "read_events": lambda path, state: list(read_events(path)),
    "Recording": indexed,
    "Recording, partial": partly,
    "verify": verify,
    "pack": packed,
    "summary": lambda path, state: summarise(path.parent),
    "Following": followed,
    **{f"export to {to}": exported(to) for to in FORMATS},
    "export to chat": trained_on,
    "runs show": shown,
    "tape": taped,
    "replay's comparison": compared,
    "settings": settled,
}


@pytest.mark.parametrize("reader", READERS)
async def test_no_recording_harms_a_reader(reader: str, tmp_path: Path) -> None:
    """Each is read or refused with an error of ours, soon; no file is made, changed or removed by that."""
    for number, name in enumerate(corpus.hostile()):
        state = tmp_path / str(number)
        path = corpus.make(name, state / "runs" / corpus.RUN)
        before = tree(state)
        started = time.process_time()
        message = await outcome(READERS[reader], path, state)
        assert time.process_time() - started < SOON, name
        assert message is None or 0 < len(message) < 5000, name
        assert tree(state) == before, name


async def outcome(reader: Callable[[Path, Path], Any], path: Path, state: Path) -> str | None:
    """Return the message of the error of ours that a reader raises, or None."""
    try:
        result = reader(path, state)
        if isinstance(result, Awaitable):
            await result
    except RlmKernelError as error:
        return str(error)
    return None


def tree(folder: Path) -> list[tuple[str, int]]:
    """Everything below a folder with its size."""
    return sorted((str(path), path.lstat().st_size) for path in folder.rglob("*"))


def test_the_recording_that_they_are_made_of_is_sound(tmp_path: Path) -> None:
    """Else nothing above would show anything."""
    path = corpus.write(tmp_path / corpus.RUN, corpus.GOOD)
    assert len(list(read_events(path))) == len(corpus.WHOLE)
    assert verify(path, tmp_path).finished
    indexed(path, tmp_path)


def test_what_a_session_is_called_is_checked_as_it_is_read(tmp_path: Path) -> None:
    """It is no path, so no reader can make one of it."""
    for name in ("a session's name is a path", "a session's name is HTML", "a session's name is long"):
        path = corpus.make(name, tmp_path / name)
        for reader in (indexed, verify, lambda path, _: list(read_events(path))):
            with pytest.raises(RecordingDamaged, match="no session is called"):
                reader(path, tmp_path)


LONG = {
    "lists": b"[" + b"[]," * 4_000_000 + b"[]]",
    "members": b"{" + b'"":0,' * 3_100_000 + b'"":0}',
    "quotes in a text": b'"' + b'\\",' * 4_000_000 + b'"',
}


@pytest.mark.parametrize("name", LONG)
async def test_a_line_that_would_fill_the_memory_is_not_decoded(name: str, tmp_path: Path) -> None:
    """A list takes twenty times its bytes in memory; a text with as many quotes and commas is fine."""
    line = corpus.raw(
        b'{"v":1,"seq":%d,"at":1,"event":{"type":"CellFinished","cell":1,"status":"ok","seconds":1,"final":'
        + LONG[name]
        + b"}}"
    )
    path = corpus.write(tmp_path / corpus.RUN, line)
    size = len(line)
    del line
    started = time.process_time()
    async with memory_bound(8 * size):
        if name == "quotes in a text":
            assert len(list(read_events(path))) == 2
        else:
            with pytest.raises(RecordingDamaged, match=f"line 2: more than {MOST_VALUES} values"):
                list(read_events(path))
    assert time.process_time() - started < SOON


async def test_a_line_over_the_limit_is_not_held(tmp_path: Path) -> None:
    """Nor is one that has no end at all."""
    path = corpus.write(tmp_path / corpus.RUN, corpus.chained([corpus.STARTED]))
    os.truncate(path, 2**40)
    async with memory_bound(200 * 2**20):
        for reader in (indexed, lambda path, _: list(read_events(path)), verify):
            with pytest.raises(RecordingDamaged, match="longer than"):
                reader(path, tmp_path)


def test_values_are_counted_outside_of_texts() -> None:
    """What a container can send at most is not too many."""
    assert not holds_too_many(b'"' + b",[{:" * MOST_VALUES + b'"')
    assert holds_too_many(b'"\\\\",' * MOST_VALUES + b"[]" * MOST_VALUES)
    assert not holds_too_many(b"[" + b"[]," * (8 * 2**20 // 3))


def test_a_file_that_grows_or_shrinks_is_read_as_it_was_or_refused(tmp_path: Path) -> None:
    """What was there when it was opened can be had, or it is said that it can't."""
    path = corpus.write(tmp_path / corpus.RUN, corpus.GOOD)
    with Recording(path) as recording:
        with path.open("ab") as file:
            file.write(b"x" * 1000)
        assert len(list(recording.records())) == len(corpus.WHOLE)
        os.truncate(path, 100)
        with pytest.raises(RecordingDamaged, match="became shorter"):
            recording.event(5)


pieces = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\0", b"null", b"-1", b"1e999", b"9" * 30, b"\\ud800"]
    ),
    st.sampled_from([b'"../../x"', b'"s1"', b'"s1/s2"', b'"RunStarted"', b'"CellStarted"', b'"node":"s9",', b'"v":2,']),
)
EDITS = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 60), pieces), min_size=1, max_size=6)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**64), 2**65), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)),
    max_leaves=6,
)
FIELDS = st.lists(st.tuples(st.integers(0, 2**10), st.integers(0, 2**10), VALUES), min_size=1, max_size=4)
KEPT = [
    (folder / "events.jsonl").read_bytes() for folder in sorted((Path(__file__).parents[1] / "recordings").glob("v*/*"))
]
short = settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)


def test_any_edits_of_bytes_are_read_or_refused(tmp_path: Path) -> None:
    """Whatever is put in the place of some bytes of a kept recording."""
    short(ANY_BYTES(check_bytes(tmp_path)))()


def test_any_fields_are_read_or_refused(tmp_path: Path) -> None:
    """Whatever is put in the place of some fields of a kept recording, with a chain that is right."""
    short(ANY_FIELDS(check_fields(tmp_path)))()


ANY_BYTES = given(st.integers(0, len(KEPT) - 1), EDITS)
ANY_FIELDS = given(st.integers(0, len(KEPT) - 1), FIELDS)


def check_bytes(folder: Path) -> Callable[[int, list[tuple[int, int, bytes]]], None]:
    """Return what edits a recording and lets every reader read it."""

    def check(kept: int, edits: list[tuple[int, int, bytes]]) -> None:
        data = KEPT[kept]
        for place, length, piece in edits:
            start = place % len(data)
            data = data[:start] + piece + data[start + length :]
        let_read(data, folder)

    return check


def check_fields(folder: Path) -> Callable[[int, list[tuple[int, int, Any]]], None]:
    """Return what changes events of a recording, chains them anew, and lets every reader read it."""

    def check(kept: int, changes: list[tuple[int, int, Any]]) -> None:
        records = [msgspec.json.decode(line) for line in KEPT[kept].splitlines()]
        for number, which, value in changes:
            record = records[number % len(records)]
            target = record if which % 7 == 0 else record["event"]
            names = [name for name in target if name not in ("v", "seq", "event", "type")]
            target[names[which % len(names)]] = value
        try:
            text = corpus.chained((record["event"], record.get("node", "")) for record in records)
        except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError):
            return
        let_read(text, folder)

    return check


def let_read(data: bytes, folder: Path) -> None:
    """Let every reader read a recording: only errors of ours may come out."""
    with tempfile.TemporaryDirectory(dir=folder) as state:
        path = corpus.write(Path(state) / "runs" / corpus.RUN, data)
        for name, reader in READERS.items():
            if name != "Following":
                try:
                    reader(path, Path(state))
                except RlmKernelError:
                    continue
