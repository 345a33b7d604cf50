"""A folder as a context: which files are in it, under which names, and what is left out."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from rlm_kernel.errors import ContextBinary, ContextEncoding, ContextNotFound
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.reading import CHUNK
from tests.unit.sandbox.conftest import contents, trusting, written


def test_a_folder_is_one_blob_and_an_index(store: ContextStore, tmp_path: Path) -> None:
    """Files lie in the blob sorted by their relative path; the index says where; `.git` is left out."""
    folder = tmp_path / "folder"
    for name, text in {"b.txt": "bé", "a/z.txt": "zz", "a.txt": "", ".git/config": "no", "a/.git/x": "no"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    stored = store.put_path(folder)
    assert (stored.kind, stored.files, stored.names) == ("files", 3, ("a.txt", "a/z.txt", "b.txt"))
    assert stored.path.read_text() == "zzbé"
    assert stored.index_path is not None
    assert json.loads(stored.index_path.read_text()) == {"files": [["a.txt", 0, 0], ["a/z.txt", 0, 2], ["b.txt", 2, 3]]}
    assert stored.index_path.name == stored.index_digest
    assert stored.notes == ()


def test_links_are_followed_inside_the_folder_only(store: ContextStore, tmp_path: Path) -> None:
    """A link to a file in the folder is that file; links out of it and to folders are named in a note."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "real.txt").write_text("real")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "inner.txt").symlink_to("real.txt")
    (folder / "outer.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    stored = store.put_path(folder)
    assert stored.names == ("inner.txt", "real.txt")
    assert "secret" not in stored.path.read_text()
    assert stored.notes == (
        "links out of the folder, or to folders, were not followed: loop, outer.txt",
        "neither files nor folders, so left out: pipe",
    )


def test_binary_files_are_named_or_left_out(store: ContextStore, tmp_path: Path) -> None:
    """Without `skip_binary` the first binary files are named; with it the others are whole and a note says so."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(7):
        (folder / f"bin{number}").write_bytes(b"x" * (CHUNK + 5) + b"\0")
    (folder / "cafe.txt").write_bytes("café".encode("latin-1"))
    (folder / "fine.txt").write_text("fine")
    with pytest.raises(ContextBinary, match=r"bin0, bin1, bin2, bin3, bin4; leave them out with --skip-binary"):
        store.put_path(folder)
    assert contents(tmp_path) == []
    stored = store.put_path(folder, skip_binary=True)
    assert (stored.names, stored.path.read_text(), stored.chars) == (("fine.txt",), "fine", 4)
    assert stored.digest == sha256(b"fine").hexdigest()
    assert stored.notes == ("not text, so left out: bin0, bin1, bin2, bin3, bin4 and 3 more",)


def test_a_folder_without_files_is_no_context(store: ContextStore, tmp_path: Path) -> None:
    """An empty folder is a mistake, not an empty dict."""
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    with pytest.raises(ContextNotFound, match="holds no files"):
        store.put_path(tmp_path / "empty")


def test_links_that_lead_nowhere_are_left_out(store: ContextStore, tmp_path: Path) -> None:
    """A link to nothing and links in a circle don't refuse the whole folder; a note names them."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "gone.txt").symlink_to("nothing")
    (folder / "self").symlink_to("self")
    (folder / "tick").symlink_to("tock")
    (folder / "tock").symlink_to("tick")
    stored = store.put_path(folder)
    assert stored.names == ("a.txt",)
    assert stored.notes == ("links that lead nowhere, so left out: gone.txt, self, tick, tock",)


def test_names_that_are_not_utf8_are_written_out(tmp_path: Path) -> None:
    """Bytes of a name that are no text appear as escapes, in names, notes and source, the second time too."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    written(folder / os.fsdecode(b"\xff.txt"), "text")
    (folder / os.fsdecode(b"\xfe")).symlink_to("nothing")
    for _ in range(2):
        stored = trusting(tmp_path).put_path(folder)
        assert stored.source == f"{tmp_path}/caf\\xe9"
        assert stored.names == ("\\xff.txt",)
        assert stored.notes == ("links that lead nowhere, so left out: \\xfe",)


def test_two_names_that_look_alike_are_refused(store: ContextStore, tmp_path: Path) -> None:
    """A file whose name is such an escape, beside one that is written so, would hide it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in (b"\xff.txt", b"\\xff.txt"):
        (folder / os.fsdecode(name)).write_text("text")
    with pytest.raises(ContextEncoding, match=r"two files of the name \\xff\.txt"):
        store.put_path(folder)
