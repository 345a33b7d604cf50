"""Contexts by the digest that a recording has of them."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from rlm_kernel.errors import ContextError, ContextMissing, ContextTooLarge
from rlm_kernel.events import ContextStored
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.given import JsonLines, opened
from rlm_kernel.sandbox.stored import StoredContext
from tests.support.images import png
from tests.unit.sandbox.conftest import written


def wanted(stored: StoredContext, **changes: object) -> ContextStored:
    """Return what a recording says of `stored`."""
    event = ContextStored(
        digest=stored.digest,
        kind=stored.kind,
        size=stored.size,
        source=stored.source,
        index_digest=stored.index_digest,
        name=stored.name,
    )
    return msgspec.structs.replace(event, **changes)


def moved(stored: StoredContext, folder: Path) -> Path:
    """Take a context out of the store into `folder`, as a packed run has it."""
    folder.mkdir()
    for path in (stored.path, stored.index_path):
        if path is not None:
            path.rename(folder / path.name)
    return folder


def every_kind(store: ContextStore, tmp_path: Path) -> list[StoredContext]:
    """Store a context of each kind."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    written(folder / "a.txt", "naïve ")
    written(folder / "b.txt", "")
    written(folder / "sub" / "c.txt", "\N{SNAKE}" * 3)
    lines, form = opened(JsonLines(written(tmp_path / "rows.jsonl", '{"a": 1}\n{"a": 2}\n')))
    return [
        store.put_value("x" * 2_000 + "é"),
        store.put_value(""),
        store.put_value({"a": [1, None]}),
        store.put_path(lines, form),
        store.put_path(folder),
        store.put_value(png(3, 2)),
    ]


def test_what_is_said_of_a_context_is_made_anew(store: ContextStore, tmp_path: Path) -> None:
    """Found by its digest, a context of any kind is what it was when it was stored."""
    for stored in every_kind(store, tmp_path):
        assert store.find(wanted(stored)) == stored


def test_a_context_is_brought_from_beside_the_recording(store: ContextStore, tmp_path: Path) -> None:
    """One that only the run's folder has is in the store afterwards, its index too."""
    for number, stored in enumerate(every_kind(store, tmp_path)):
        beside = moved(stored, tmp_path / f"contexts{number}")
        assert store.find(wanted(stored), beside) == stored
        assert stored.path.stat().st_mode & 0o777 == 0o444
        assert store.find(wanted(stored)) == stored


def test_a_missing_context_is_named_with_the_ways_out(store: ContextStore) -> None:
    """The message has the digest, the source, the size and what can be done."""
    stored = store.put_value("gone")
    stored.path.unlink()
    with pytest.raises(ContextMissing, match=f"value, 4 bytes, SHA-256 {stored.digest}") as missing:
        store.find(wanted(stored, name="report"))
    assert "--context report=PATH" in str(missing.value)
    assert "packed with its contexts" in str(missing.value)


def test_other_bytes_under_a_digest_do_not_count(store: ContextStore, tmp_path: Path) -> None:
    """A file that was changed is as one that is missing, in the store and beside the recording, at any size."""
    stored = store.put_value("the truth")
    beside = moved(stored, tmp_path / "contexts")
    for forged in (b"the trick", b"longer than the truth", b""):
        written(stored.path, forged)
        (beside / stored.digest).unlink(missing_ok=True)
        written(beside / stored.digest, forged)
        with pytest.raises(ContextMissing):
            store.find(wanted(stored), beside)
    (beside / stored.digest).unlink()
    written(beside / stored.digest, "the truth")
    assert store.find(wanted(stored), beside) == stored
    assert stored.path.read_text() == "the truth"


def test_no_link_and_no_folder_is_followed(store: ContextStore, tmp_path: Path) -> None:
    """A link beside the recording leads nowhere, though its end has the right bytes; a folder is no file."""
    stored = store.put_value("secret")
    beside = tmp_path / "contexts"
    beside.mkdir()
    stored.path.rename(tmp_path / "secret")
    (beside / stored.digest).symlink_to(tmp_path / "secret")
    with pytest.raises(ContextMissing):
        store.find(wanted(stored), beside)
    (beside / stored.digest).unlink()
    (beside / stored.digest).mkdir()
    with pytest.raises(ContextMissing):
        store.find(wanted(stored), beside)


@pytest.mark.parametrize(
    "digest", ["", "../../etc/passwd", "/etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", "\u0660" * 64]
)
def test_what_is_no_digest_never_is_a_path(store: ContextStore, digest: str) -> None:
    """Only 64 hexadecimal digits are looked for."""
    event = ContextStored(digest=digest, kind="str", size=1, source="x")
    with pytest.raises(ContextError, match="no digest"):
        store.find(event)
    with pytest.raises(ContextError, match="no digest"):
        store.find(msgspec.structs.replace(event, digest="a" * 64, kind="files", index_digest=digest))


def test_bytes_that_are_not_of_the_recorded_kind_are_refused(store: ContextStore) -> None:
    """A recording can't pass off one kind of context for another."""
    text, half = store.put_value("no JSON"), store.put_value(png(1, 1))
    for event in (wanted(text, kind="json"), wanted(text, kind="image"), wanted(half, kind="str")):
        with pytest.raises(ContextError, match="recorded context"):
            store.find(event)


@pytest.mark.parametrize(
    "index",
    [
        b"[]",
        b'{"files":[]}',
        b'{"files":[["a",0,3]]}',
        b'{"files":[["a",1,5]]}',
        b'{"files":[["a",0,9],["b",9,-3]]}',
        b'{"files":[["a",0,6]],"more":1}',
        b'{"files":[[1,0,6]]}',
        b"\xff",
    ],
)
def test_an_index_that_does_not_fit_is_refused(store: ContextStore, tmp_path: Path, index: bytes) -> None:
    """Each file lies behind the one before it, and all of them are the context."""
    stored = store.put_value("folder")
    digest = sha256(index).hexdigest()
    written(tmp_path / "store" / digest, index)
    with pytest.raises(ContextError, match="'files' by its bytes"):
        store.find(wanted(stored, kind="files", index_digest=digest))


def test_a_context_that_does_not_fit_is_not_read(store: ContextStore) -> None:
    """The session's memory bounds a recorded context as any other."""
    with pytest.raises(ContextTooLarge):
        store.find(wanted(store.put_value("x" * 2_000)), max_bytes=1_000)
