"""What a cell's outcome looks like to the model: plain text of bounded length that says what it leaves out."""

from __future__ import annotations

import re
from itertools import groupby

from rlm_kernel.kernel.result import CellResult
from rlm_kernel.text import ESCAPES, encodable, joined
from rlm_kernel.types import JSON

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_CUT = "\n[… {:,} characters not shown here; what is in a variable is still whole …]\n"
_TRACEBACK_CHARACTERS = 2_000
_MAX_FRAMES = 12
_NAMES_CHARACTERS = 600
_NAMES_TOLD = 200
"""The guest tells no more names than these."""
_DEATHS = {
    "OutOfMemory": "the sandbox's memory was full",
    "SandboxLost": "its container ended and is replaced, so the files that cells wrote are gone too",
}


def shown(result: CellResult, limit: int) -> str:
    """Return what the model sees of `result`; the outputs among it have at most `limit` characters."""
    text = "\n".join(part for output in result.outputs if (part := _output(output).strip("\n")))
    notes = _notes(result)
    if not text and not notes:
        return "(no output)"
    return "\n".join([*([cut(text, limit)] if text else []), *notes])


def cut(text: str, limit: int) -> str:
    """Return `text` in at most `limit` characters: its head and its tail, and between them how many are missing."""
    if len(text) <= limit:
        return text
    room = limit - len(_CUT.format(len(text)))
    if room < 2:
        return text[:limit]
    tail = max(1, room // 3)
    return text[: room - tail] + _CUT.format(len(text) - room) + text[-tail:]


def plain(text: str) -> str:
    """Return `text` without terminal codes, overwritten progress lines, control characters and lone surrogates."""
    text = ESCAPES.sub("", text).replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return encodable(_CONTROL.sub("", text))


def _output(output: dict[str, JSON]) -> str:
    kind = output.get("output_type")
    if kind == "stream":
        return plain(joined(output.get("text")))
    if kind == "error":
        return _traceback(output)
    data = output.get("data")
    return _display(data) if isinstance(data, dict) else ""


def _display(data: dict[str, JSON]) -> str:
    """Prefer text; name everything else by its type and size."""
    for kind in ("text/plain", "text/markdown", "text/latex"):
        if kind in data:
            text = plain(joined(data[kind]))
            others = [
                _described(other, data[other]) for other in data if other.startswith(("image/", "audio/", "video/"))
            ]
            return "\n".join([text, *others])
    return "\n".join(_described(kind, value) for kind, value in data.items())


def _described(kind: str, value: JSON) -> str:
    return f"[{plain(kind)[:80]}, {len(joined(value)):,} characters, not shown]"


def _traceback(output: dict[str, JSON]) -> str:
    """Return an error's frames in cells, the innermost one and the message; say what is left out between them."""
    frames = output.get("traceback")
    entries = [plain(str(frame)).rstrip("\n") for frame in frames] if isinstance(frames, list) else []
    entries = [entry for entry in entries if entry.strip("-")]
    if not entries:
        entries = [plain(f"{output.get('ename')}: {output.get('evalue')}")]
    innermost = len(entries) - 2
    kept: list[str] = []
    for is_library, run in groupby(
        enumerate(entries), lambda item: item[1].startswith("File ") and item[0] != innermost
    ):
        texts = [text for _, text in run]
        kept += [f"[… {len(texts)} frames of libraries …]"] if is_library else texts
    if len(kept) > _MAX_FRAMES:
        half = _MAX_FRAMES // 2
        kept = [*kept[:half], f"[… {len(kept) - 2 * half} frames …]", *kept[-half:]]
    return cut("\n".join(kept), _TRACEBACK_CHARACTERS)


def _notes(result: CellResult) -> list[str]:
    """Say what the outputs don't."""
    notes = []
    if result.cut:
        notes.append(f"[The sandbox left out {result.cut:,} bytes of this cell's output.]")
    if result.status == "timed_out":
        notes.append(f"[The cell was stopped at its time limit, after {result.seconds:.0f} s. Do less in one cell.]")
    elif result.status == "interrupted":
        notes.append("[The cell was interrupted.]")
    elif result.status == "kernel_died":
        why = _DEATHS.get(result.ename or "") or plain(str(result.evalue))[:200]
        notes.append(f"[The kernel died during this cell: {why}. The last of its output may be missing.]")
    elif result.status == "error" and not any(output.get("output_type") == "error" for output in result.outputs):
        notes.append(plain(f"{result.ename}: {result.evalue}"[:_TRACEBACK_CHARACTERS]))
    if result.files_lost:
        notes.append("[The files that earlier cells wrote went with the last kernel.]")
    if result.lost is not None:
        notes.append(_lost(result, result.lost))
    return notes


def _lost(result: CellResult, gone: tuple[str, ...]) -> str:
    """Say in one line what a lost kernel cost, and what of it was made anew."""
    said = ["A new kernel runs."]
    if result.rebuilt:
        said.append(f"Earlier cells were run again in it: these variables are back: {_listed(result.rebuilt)}.")
    if gone:
        said.append(f"These variables are gone: {_listed(gone)}.")
    elif not result.rebuilt:
        said.append("Your variables are gone.")
    if result.not_rebuilt is not None:
        said.append(f"Not all was run again: {plain(result.not_rebuilt)[:200]}.")
    return f"[{' '.join(said)} `context` and the functions are there again.]"


def _listed(names: tuple[str, ...]) -> str:
    """Return as many names as have room, and the number of the others; what is no name in Python is not repeated."""
    said: list[str] = []
    room = _NAMES_CHARACTERS
    for name in names:
        room -= len(name) + 2
        if room < 0:
            break
        if name.isidentifier():
            said.append(name)
    if not (others := len(names) - len(said)):
        return ", ".join(said)
    others_said = f"{'at least ' if len(names) >= _NAMES_TOLD else ''}{others:,} {'more' if said else 'of them'}"
    return f"{', '.join(said)} and {others_said}" if said else others_said
