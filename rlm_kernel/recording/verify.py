"""Whether a recording is as it was written: each line follows on the one before, up to a head kept elsewhere."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlm_kernel.errors import RecordingAltered, RecordingError, RecordingUnproven
from rlm_kernel.recording.chain import Chain
from rlm_kernel.recording.heads import Head, kept_head
from rlm_kernel.recording.reader import open_recording, read_line, reading

CONTEXTS = "contexts"
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PIECE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A recording whose lines follow on each other. `against` says whose head it was held against, None for nobody's.

    `torn` are the bytes of a last line without its end, `finished` tells whether the run has ended, and `contexts` are
    the digests in its folder, which are what they say.
    """

    head: Head
    against: str | None
    torn: int
    finished: bool
    contexts: tuple[str, ...]


def verify(path: Path, state_dir: Path, digest: str | None = None) -> Verified:
    """Read all of an `events.jsonl`, one line in memory at a time, and what lies in `contexts` beside it.

    It is held against `digest` if given, else against the head that was kept in `state_dir` when the run ended, if
    there is one. Raise `RecordingDamaged` for the first line that does not follow, `RecordingAltered` where the head is
    another one or a context is not what its name says, and `RecordingUnproven` for one of version 1.
    """
    if digest is not None and not is_digest(digest):
        raise RecordingError(f"{digest[:100]!r} is no head: that is 64 hexadecimal digits, in small letters")
    given = None if digest is None else Head(digest=digest, records=0)
    kept = kept_head(state_dir, path.absolute().parent.name) if given is None else None
    wanted = given or kept
    chain, found, torn, last = Chain(path), 0, 0, ""
    for line in lines(path, chain):
        if not line.endswith(b"\n"):
            torn = len(line)
            break
        record = chain.take(line[:-1])
        last = f"{record.node} {record.event.type}"
        if wanted is not None and chain.head == wanted.digest:
            found = chain.records
    if chain.records == 0:
        raise RecordingError(f"{path} holds no record")
    if wanted is not None:
        _hold_against(wanted, chain, found, torn, path)
    if chain.chained < chain.records:
        raise RecordingUnproven(
            f"{path}: {chain.records - chain.chained} of its {chain.records} records are of version 1, where no line "
            "names the one before: nothing can be shown of them"
        )
    return Verified(
        head=chain.as_head(),
        against="the head that was given" if given else "the head that was kept when the run ended" if kept else None,
        torn=torn,
        finished=last == " RunFinished",
        contexts=tuple(_contexts(path.parent / CONTEXTS)),
    )


def lines(path: Path, chain: Chain) -> Iterator[bytes]:
    """Yield what `path` held when it was opened, line by line; only the last one may lack its newline."""
    with reading(path), os.fdopen(open_recording(path), "rb") as file:
        left = os.fstat(file.fileno()).st_size
        while left > 0 and (line := read_line(file, path, chain.records + 1)):
            left -= len(line)
            yield line


def is_digest(text: str) -> bool:
    """Tell whether `text` is made as SHA-256 in hexadecimal is."""
    return _DIGEST.fullmatch(text) is not None


def file_digest(path: Path) -> str:
    """Return SHA-256 of a file, which is no link and no device. Raise `RecordingError`."""
    with reading(path), os.fdopen(open_recording(path), "rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _hold_against(wanted: Head, chain: Chain, found: int, torn: int, path: Path) -> None:
    """Raise `RecordingAltered` unless what was read ends with the head that is wanted."""
    has = f"{path} has {chain.records} records"
    if found == chain.records and not torn:
        return
    if found == chain.records:
        why = f"{torn} bytes were added after the last one"
    elif found:
        why = f"{chain.records - found} of them were added after the one whose head this is"
    elif wanted.records > chain.records:
        why = f"{wanted.records} were written: those at its end are missing, or all were replaced"
    else:
        why = "none of them has this head: something in them was changed, or those at the end are missing"
    raise RecordingAltered(f"{has}, and {why} ({wanted.digest})")


def _contexts(folder: Path) -> Iterator[str]:
    with reading(folder):
        names = sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208 - names alone, which are hostile
    for name in filter(is_digest, names):
        if file_digest(folder / name) != name:
            raise RecordingAltered(f"the context {folder / name} is not what its name says: it was changed")
        yield name
