"""Bundles: packed and unpacked again, and refused where they lie."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from rlm_kernel.errors import BundleInvalid, RecordingAltered, RecordingDamaged, RecordingError, RecordingTooNew
from rlm_kernel.recording import RecordingLog, run_folders, verify
from rlm_kernel.recording.bundle.manifest import Manifest
from rlm_kernel.recording.bundle.pack import Packing, write_bundle
from rlm_kernel.recording.bundle.unpack import opened_run, unpack
from rlm_kernel.storage import UNFINISHED, abandoned
from tests.support.recorded import finished, run_id, started, stored

RUN = run_id(1)
TEXT, INDEX = b"a context of some words", b'{"files":[["a",0,23]]}'
DIGESTS = sorted(hashlib.sha256(data).hexdigest() for data in (TEXT, INDEX))
MISSING = "f" * 64


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder with one run, whose contexts are in the store but for one."""
    home = tmp_path / "home"
    with RecordingLog(home, RUN) as log:
        log.emit(started(RUN))
        log.emit(stored(hashlib.sha256(TEXT).hexdigest(), hashlib.sha256(INDEX).hexdigest()))
        log.emit(stored(MISSING))
        log.emit(started(f"{RUN}/s1"), "s1")
        log.emit(stored("e" * 64), "s1")
        log.emit(finished())
    (home / "contexts").mkdir()
    for data in (TEXT, INDEX):
        (home / "contexts" / hashlib.sha256(data).hexdigest()).write_bytes(data)
    return home


def events(home: Path) -> Path:
    return home / "runs" / RUN / "events.jsonl"


def packed(home: Path, **options: Any) -> bytes:
    file = io.BytesIO()
    write_bundle(events(home), file, Packing(store=home / "contexts", **options))
    return file.getvalue()


@pytest.fixture
def bundle(home: Path, tmp_path: Path) -> Path:
    path = tmp_path / "x.tar.zst"
    path.write_bytes(packed(home))
    return path


def members(data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompressobj().decompress(data))) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


@pytest.mark.parametrize("level", [1, 19])
def test_what_is_packed_is_there_again(home: Path, tmp_path: Path, level: int) -> None:
    """The recording byte by byte and its contexts, in a private folder, and it is verified."""
    (tmp_path / "x").write_bytes(packed(home, level=level))
    folder, manifest = unpack(tmp_path / "x", tmp_path / "new")
    assert folder == tmp_path / "new" / "runs" / RUN
    assert (folder / "events.jsonl").read_bytes() == events(home).read_bytes()
    assert sorted(path.name for path in (folder / "contexts").iterdir()) == DIGESTS
    assert [one.digest for one in manifest.contexts if not one.included] == [MISSING]
    assert verify(folder / "events.jsonl", home).contexts == tuple(DIGESTS)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert modes == {0o700, 0o600}
    assert [path.name for path in (tmp_path / "new" / "runs").iterdir()] == [RUN]


def test_the_same_run_gives_the_same_bytes(home: Path, tmp_path: Path) -> None:
    """Whoever packs it, wherever its contexts lie; other tools can read it."""
    first = packed(home)
    os.utime(events(home), (1, 1))
    assert packed(home) == first
    (tmp_path / "x").write_bytes(first)
    unpack(tmp_path / "x", tmp_path / "new")
    assert packed(tmp_path / "new") == first
    headers = [member for member, _ in members(first)]
    assert [member.name for member in headers] == [
        "bundle.json",
        *(f"contexts/{one}" for one in DIGESTS),
        "events.jsonl",
    ]
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in headers} == {
        (0, 0, 0, "", 0o600)
    }


def test_contexts_may_be_left_out(home: Path, tmp_path: Path) -> None:
    """Their digests stay."""
    (tmp_path / "x").write_bytes(packed(home, contexts=False))
    folder, manifest = unpack(tmp_path / "x", tmp_path / "new")
    assert [(one.digest, one.included) for one in manifest.contexts] == [(one, False) for one in [*DIGESTS, MISSING]]
    assert [path.name for path in folder.iterdir()] == ["events.jsonl"]


def test_a_run_that_is_written_is_not_packed(tmp_path: Path) -> None:
    """Its bundle would be out of date at once."""
    with RecordingLog(tmp_path, RUN) as log:
        log.emit(started(RUN))
        with pytest.raises(RecordingError, match="still being written"):
            packed(tmp_path)


def test_a_torn_last_line_is_packed_as_it_is(home: Path, tmp_path: Path) -> None:
    """As a crash left it."""
    events(home).write_bytes(events(home).read_bytes()[:-7])
    (tmp_path / "x").write_bytes(packed(home))
    folder, manifest = unpack(tmp_path / "x", tmp_path / "new")
    assert manifest.records == 5
    assert (folder / "events.jsonl").read_bytes() == events(home).read_bytes()


def test_what_does_not_read_is_not_packed(home: Path) -> None:
    """An edited line, or a context that is not what its name says."""
    (home / "contexts" / DIGESTS[0]).write_bytes(b"x" * 23)
    with pytest.raises(RecordingAltered, match="not what its name says"):
        packed(home)
    events(home).write_bytes(events(home).read_bytes().replace(b"scripted", b"skripted").replace(b"fake:root", b"x", 1))
    with pytest.raises(RecordingDamaged, match="line 2"):
        packed(home)


def test_a_run_that_is_there_stays(bundle: Path, home: Path) -> None:
    """Nothing is written over."""
    before = events(home).read_bytes()
    with pytest.raises(RecordingError, match="there is a recording at"):
        unpack(bundle, home)
    assert events(home).read_bytes() == before
    assert [path.name for path in (home / "runs").iterdir()] == [RUN]


def test_a_bundle_can_be_read_without_being_unpacked(bundle: Path, tmp_path: Path) -> None:
    """For a block, after which nothing is left; its head is found by its run's id."""
    with opened_run(tmp_path / "new", str(bundle)) as path:
        assert path.parent.name == RUN
        assert verify(path, tmp_path / "home").against
    assert list((tmp_path / "new" / "runs").iterdir()) == []


def test_a_run_can_be_opened_by_its_name(home: Path) -> None:
    """As `find_run` has it."""
    with opened_run(home, "last") as path:
        assert path == events(home)


Member = tuple[str, bytes, bytes]
"""Name, type, content."""


def archive(found: Iterable[Member], tail: bytes = b"\0" * 1024) -> bytes:
    """Return an archive of whatever members, packed."""
    data = b""
    for name, kind, content in found:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, len(content)
        member.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
        data += member.tobuf(tarfile.GNU_FORMAT) + content + b"\0" * (-len(content) % 512)
    return zstandard.ZstdCompressor().compress(data + tail)


def manifest(data: bytes, **changes: Any) -> Callable[[list[Member]], list[Member]]:
    """Return what changes the manifest among members."""

    def change(found: list[Member]) -> list[Member]:
        content = data or msgspec.json.encode(msgspec.json.decode(found[0][2]) | changes)
        return [(found[0][0], found[0][1], content), *found[1:]]

    return change


def at(place: int, name: str | None = None, kind: bytes | None = None, data: bytes | None = None) -> Any:
    """Return what changes one member."""

    def change(found: list[Member]) -> list[Member]:
        old = found[place]
        new = (name or old[0], kind or old[1], old[2] if data is None else data)
        return [*found[:place], new, *found[place:][1:]]

    return change


def context(digest: str, size: int = 3) -> dict[str, Any]:
    return {"digest": digest, "size": size, "included": True}


LIES: dict[str, tuple[Callable[[list[Member]], list[Member]], str]] = {
    "no members": (lambda found: [], "no member of an archive"),
    "no manifest": (lambda found: found[1:], "bundle.json is due"),
    "a second manifest": (lambda found: [found[0], *found], "is due"),
    "another order": (lambda found: [found[0], found[2], found[1], found[3]], "is due"),
    "a member twice": (lambda found: [*found, found[-1]], "stands between"),
    "one more": (lambda found: [*found, ("evil", tarfile.REGTYPE, b"x")], "does not end|stands between"),
    "one less": (lambda found: found[:-1], "no member of an archive"),
    "a path up": (at(1, name="../../evil"), "is due as a file, and '../../evil'"),
    "an absolute path": (at(1, name="/tmp/evil"), "is due"),
    "another name": (at(3, name="events.jsonl/x"), "is due"),
    "a dot before it": (at(3, name="./events.jsonl"), "is due"),
    "a link": (at(1, kind=tarfile.SYMTYPE), "is due as a file"),
    "a hard link": (at(1, kind=tarfile.LNKTYPE), "is due as a file"),
    "a device": (at(3, kind=tarfile.CHRTYPE), "is due as a file"),
    "a FIFO": (at(3, kind=tarfile.FIFOTYPE), "is due as a file"),
    "a folder": (at(3, kind=tarfile.DIRTYPE), "is due as a file"),
    "a sparse file": (at(3, kind=tarfile.GNUTYPE_SPARSE), "is due as a file"),
    "a long name": (at(0, kind=tarfile.GNUTYPE_LONGNAME), "is due as a file"),
    "extended headers": (at(0, kind=tarfile.XHDTYPE), "is due as a file"),
    "another context": (at(1, data=b"x" * 23), "another size|not what its name says"),
    "another recording": (at(3, data=b"x" * 40), "another size"),
    "no JSON": (manifest(b"x"), "is no manifest"),
    "deep JSON": (manifest(b"[" * 100_000), "is no manifest"),
    "a manifest too large": (manifest(b" " * (4 * 2**20 + 1)), "bundle.json has"),
    "a run that is a path": (manifest(b"", run="../../x"), "not a run's id"),
    "another run": (manifest(b"", run=run_id(2)), "not that of the run"),
    "a run in the future": (manifest(b"", run="99981231T000000Z-00000000"), "begun in the future"),
    "a run on no day": (manifest(b"", run="20269999T000000Z-00000000"), "begun in the future"),
    "another head": (manifest(b"", head="0" * 64), "does not end with the head"),
    "a head that is none": (manifest(b"", head="x"), "no SHA-256"),
    "fewer records": (manifest(b"", records=2), "does not end with the head"),
    "a negative size": (manifest(b"", size=-1), "is no manifest"),
    "another size": (manifest(b"", size=7), "another size"),
    "a huge size": (manifest(b"", size=2**52), "it would take .* bytes unpacked"),
    "sizes that overflow": (manifest(b"", size=2**70), "is no manifest"),
    "a context that is a path": (manifest(b"", contexts=[context("../../x")]), "no SHA-256"),
    "contexts that are the same": (manifest(b"", contexts=[context("0" * 64)] * 2), "not in order"),
    "a context that is not there": (manifest(b"", contexts=[context("0" * 64)]), "is due"),
    "many contexts": (manifest(b"", contexts=[context(f"{n:064x}") for n in range(10_001)]), "too many"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_bundle_that_lies_leaves_nothing(lie: str, bundle: Path, tmp_path: Path) -> None:
    """Neither in the state folder nor anywhere else; what is wrong is said."""
    change, words = LIES[lie]
    found = [(member.name, member.type, data) for member, data in members(bundle.read_bytes())]
    bundle.write_bytes(archive(change(found)))
    assert_refused(bundle, tmp_path, words)


def assert_refused(bundle: Path, tmp_path: Path, words: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BundleInvalid, match=words):
        unpack(bundle, tmp_path / "new")
    assert sorted(set(tmp_path.rglob("*")) - set(before)) == [tmp_path / "new", tmp_path / "new" / "runs"]


def test_an_archive_of_another_hand_is_fine(bundle: Path, tmp_path: Path) -> None:
    """The lies above are refused for what they change."""
    found = [(member.name, member.type, data) for member, data in members(bundle.read_bytes())]
    bundle.write_bytes(archive(found))
    assert unpack(bundle, tmp_path / "new")


def test_an_unpacking_that_is_killed_leaves_no_run(bundle: Path, tmp_path: Path) -> None:
    """What it leaves has a name that is swept and a lock that went with it; the next one is not in its way."""
    code = """
import os, signal, sys
from pathlib import Path
from rlm_kernel.recording.bundle import unpack
unpack._check_events = lambda path, manifest: os.kill(os.getpid(), signal.SIGKILL)
unpack.unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    killed = subprocess.run([sys.executable, "-c", code, bundle, tmp_path / "new"], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "new" / "runs").iterdir()
    assert (left / RUN / "events.jsonl").stat().st_size
    assert left.name.startswith(UNFINISHED)
    assert list(run_folders(tmp_path / "new")) == []
    with abandoned(left) as free:
        assert free
    assert unpack(bundle, tmp_path / "new")


@pytest.mark.parametrize("place", [0, 1, 4, 20, 200, -300, -20, -4, -1])
def test_a_bundle_that_is_cut_off_leaves_nothing(bundle: Path, tmp_path: Path, place: int) -> None:
    """Wherever that is, in the checksum at its end too."""
    bundle.write_bytes(bundle.read_bytes()[:place])
    assert_refused(bundle, tmp_path, "it is cut off|archive is cut off")


def test_what_stands_behind_a_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    """Bytes, another frame, members behind the archive's end, an end that has none."""
    whole = bundle.read_bytes()
    found = [(member.name, member.type, data) for member, data in members(whole)]
    for data in (
        whole + b"x",
        whole + whole,
        whole + b"\x50\x2a\x4d\x18\x04\x00\x00\x00evil",
        archive(found, tail=b"\0" * 1024 + b"x" * 512),
        archive(found, tail=b""),
        archive(found, tail=bytes(2**20)),
    ):
        bundle.write_bytes(data)
        with pytest.raises(BundleInvalid, match=r"does not end|stands between"):
            unpack(bundle, tmp_path / "new")


def test_a_flipped_bit_is_refused(bundle: Path, tmp_path: Path) -> None:
    """Wherever it is, by the packing's checksum if by nothing before; else nothing of what is in it has changed."""
    whole = bundle.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        bundle.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            unpack(bundle, tmp_path / str(place))
        except RecordingError:
            assert list((tmp_path / str(place) / "runs").iterdir()) == []
        else:
            assert events(tmp_path / str(place)).read_bytes() == events(tmp_path / "home").read_bytes()


def test_a_bomb_is_stopped_early(bundle: Path, tmp_path: Path) -> None:
    """No more is unpacked than the manifest admits to, and that is no more than is allowed; nor with a huge window."""
    found = [(member.name, member.type, data) for member, data in members(bundle.read_bytes())]
    bundle.write_bytes(archive([found[0], ("events.jsonl", tarfile.REGTYPE, bytes(50 * 2**20))]))
    assert_refused(bundle, tmp_path, "is due")
    bundle.write_bytes(archive(found))
    with pytest.raises(BundleInvalid, match=r"would take .* 100 may be; see --max-size"):
        unpack(bundle, tmp_path / "new", most_bytes=100)
    window = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=window).compressobj()
    bundle.write_bytes(compressor.compress(bytes(2**20)) + compressor.flush())
    with pytest.raises(BundleInvalid, match="can't be unpacked"):
        unpack(bundle, tmp_path / "new")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A FIFO, a folder, nothing at all."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "nothing"):
        with pytest.raises(RecordingError):
            unpack(path, tmp_path / "new")


def test_a_bundle_of_a_later_version_is_told_apart(bundle: Path, tmp_path: Path) -> None:
    """With the way out."""
    bundle.write_bytes(archive([("bundle.json", tarfile.REGTYPE, b'{"bundle":2,"other":true}')]))
    with pytest.raises(RecordingTooNew, match="Install a later"):
        unpack(bundle, tmp_path / "new")


def test_the_manifest_says_what_is_in_it(bundle: Path, home: Path) -> None:
    """For whoever looks into it with other tools."""
    said = msgspec.json.decode(members(bundle.read_bytes())[0][1], type=Manifest)
    assert (said.run, said.records, said.size) == (RUN, 6, events(home).stat().st_size)
    assert said.head == verify(events(home), home).head.digest
