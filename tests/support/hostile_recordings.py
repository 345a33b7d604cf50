"""Recordings that are cut, edited, made up or mean harm: every reader of recordings has to stand all of them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

RUN = "20261121T073000Z-1f0c9a3e"
KEPT = Path(__file__).parents[1] / "recordings" / "v1" / "session" / "events.jsonl"
DIGEST = hashlib.sha256(b"context").hexdigest()

STARTED: dict[str, Any] = {
    "type": "RunStarted",
    "run": RUN,
    "question": "?",
    "model": "scripted:a",
    "sub_model": "scripted:a",
    "package_version": "0.1.0",
    "python_version": "3.11.7",
}
STORED = {"type": "ContextStored", "digest": DIGEST, "kind": "str", "size": 7, "source": "value"}
ASKED = {"type": "QuestionAsked", "ask": 1, "question": "?"}
TURN = {"type": "TurnStarted", "turn": 1}
CELL = {"type": "CellStarted", "cell": 1, "turn": 1, "code": "1"}
CALL = {"type": "SubcallRequested", "call": "s1", "cell": 1, "kind": "llm", "model": "m", "prompt": "?"}
REPLY = {
    "type": "SubcallReplied",
    "call": "s1",
    "text": "!",
    "finish_reason": "stop",
    "usage": {},
    "seconds": 0.1,
    "attempts": 1,
    "served_by": "m",
}
DONE = {"type": "CellFinished", "cell": 1, "status": "ok", "seconds": 0.1}
ANSWER = {"type": "AnswerGiven", "answer": "42", "source": "FINAL"}
FINISHED = {"type": "RunFinished", "status": "answered", "answer": "42", "seconds": 1.0, "turns": 1, "usage": {}}
WHOLE = [STARTED, STORED, ASKED, TURN, CELL, CALL, REPLY, DONE, ANSWER, FINISHED]

HTML = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b]0;evil\x07\x00\u202e"
UP = "../../../../etc/passwd"


def chained(events: Iterable[Any], **changes: Any) -> bytes:
    """Return a recording of version 2 whose chain is right; an event may be a pair with its node."""
    done, prev = bytearray(), ""
    for seq, each in enumerate(events):
        event, node = each if isinstance(each, tuple) else (each, "")
        record = {"v": 2, "seq": seq, "at": 1795246200.5 + seq, "event": event}
        record |= ({"node": node} if node else {}) | ({"prev": prev} if prev else {}) | changes
        line = msgspec.json.encode(record)
        done += line + b"\n"
        prev = hashlib.sha256(line).hexdigest()
    return bytes(done)


def raw(*lines: bytes) -> bytes:
    """Return lines of version 1 behind a good first one; `%d` is a line's number."""
    first = chained([STARTED], v=1)
    return first + b"".join(line.replace(b"%d", str(number).encode()) + b"\n" for number, line in enumerate(lines, 1))


def event(text: bytes) -> bytes:
    """Return a line of version 1 with an event as it is written."""
    return b'{"v":1,"seq":%d,"at":1,"event":' + text + b"}"


def without(name: str) -> bytes:
    """Return a whole run without the events of a type."""
    return chained(one for one in WHOLE if one["type"] != name)


def changed(kind: str, /, **fields: Any) -> bytes:
    """Return a whole run with other fields in the events of a type."""
    return chained(one | fields if one["type"] == kind else one for one in WHOLE)


GOOD = chained(WHOLE)
KEPT_LINES = KEPT.read_bytes().splitlines(keepends=True)

BYTES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "one newline": lambda: b"\n",
    "no end": lambda: GOOD[:-1],
    "half": lambda: GOOD[: len(GOOD) // 2],
    "without its beginning": lambda: GOOD.split(b"\n", 1)[1],
    "an edited line": lambda: GOOD.replace(b'"code":"1"', b'"code":"2"'),
    "a line twice": lambda: b"".join([*KEPT_LINES[:3], *KEPT_LINES[2:]]),
    "lines exchanged": lambda: b"".join([KEPT_LINES[0], KEPT_LINES[2], KEPT_LINES[1], *KEPT_LINES[3:]]),
    "a later version": lambda: chained(WHOLE, v=3),
    "a much later version": lambda: chained(WHOLE, v=10**30),
    "no version": lambda: chained(WHOLE, v=None),
    "version 0": lambda: chained(WHOLE, v=0),
    "versions mixed": lambda: GOOD + KEPT_LINES[len(WHOLE)],
    "an unknown event": lambda: chained([*WHOLE[:4], {"type": "Invented", "x": [1]}, *WHOLE[4:]]),
    "unknown events alone": lambda: chained([{"type": "Invented"}] * 3),
    "a wrong type": lambda: changed("CellStarted", code=7),
    "no JSON": lambda: raw(b"hello"),
    "NUL bytes": lambda: raw(b"\0" * 5000),
    "no UTF-8": lambda: raw(event(b'{"type":"Notice","message":"\xff\xfe"}')),
    "a lone surrogate": lambda: raw(event(b'{"type":"Notice","message":"\\ud800"}')),
    "NaN": lambda: raw(b'{"v":1,"seq":%d,"at":NaN,"event":{"type":"TurnStarted","turn":1}}'),
    "a time beyond numbers": lambda: raw(b'{"v":1,"seq":%d,"at":1e999,"event":{"type":"TurnStarted","turn":1}}'),
    "a time in no year": lambda: chained(WHOLE, at=1e300),
    "a time before all": lambda: chained(WHOLE, at=-1e15),
    "a number beyond doubles": lambda: changed("TurnStarted", turn=2**63),
    "a huge number": lambda: raw(event(b'{"type":"TurnStarted","turn":' + b"9" * 100_000 + b"}")),
    "huge durations": lambda: changed("RunFinished", seconds=1e308, turns=-(2**62)),
    "negative amounts": lambda: changed("CellFinished", seconds=-1e308, cut=-1),
    "a number of a record that jumps": lambda: chained(WHOLE, seq=2**53),
    "keys that stand twice": lambda: raw(b'{"v":1,"v":1,"seq":0,"seq":%d,"at":1,"event":{},"event":{"type":"Notice"}}'),
    "deep JSON": lambda: raw(event(b'{"type":"ToolRequested","arguments":' + b'{"a":' * 50_000)),
    "deep JSON that closes": lambda: changed("RunStarted", settings={"a": "DEEP"}).replace(b'"DEEP"', _deep()),
    "a session's name is a path": lambda: chained([*WHOLE, (STARTED, UP)]),
    "a session's name is HTML": lambda: chained([*WHOLE, (STARTED, HTML)]),
    "a session's name is long": lambda: chained([*WHOLE, (STARTED, "/".join(["s1"] * 500_000))]),
    "sessions in sessions": lambda: chained((STARTED, "/".join(["s1"] * depth)) for depth in range(99)),
    "a session that is its own parent": lambda: chained([STARTED, (STARTED | {"parent_run": RUN}, "s1")]),
    "a run that is from itself": lambda: changed("RunStarted", origin=_origin(RUN)),
    "a run that is from a path": lambda: changed("RunStarted", origin=_origin(UP)),
    "a run's id is a path": lambda: changed("RunStarted", run=UP),
    "a run's id is HTML": lambda: changed("RunStarted", run=HTML),
    "a context's digest is a path": lambda: changed("ContextStored", digest=UP),
    "a context's digest is empty": lambda: changed("ContextStored", digest=""),
    "an index's digest is a path": lambda: changed("ContextStored", kind="files", index_digest=UP),
    "a context's name is a path": lambda: changed("ContextStored", name=UP),
    "a context of any size": lambda: changed("ContextStored", size=2**62),
    "a context that is missing": lambda: changed("ContextStored", digest="0" * 64),
    "HTML everywhere": lambda: chained(_with_text(HTML)),
    "escape sequences everywhere": lambda: chained(_with_text("\x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b31m\r\n\x08")),
    "Markdown everywhere": lambda: chained(_with_text("```\n</details>\n# x\n[x](javascript:alert(1))\n~~~~\n````")),
    "outputs that are none": lambda: _with_output({"output_type": "evil", "data": 7}),
    "outputs without a type": lambda: _with_output({}),
    "outputs that run": lambda: _with_output(
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"application/javascript": "alert(1)", "text/html": HTML, "image/svg+xml": "<svg onload=alert(1)>"},
        }
    ),
    "an image that is none": lambda: _with_output(
        {"output_type": "display_data", "metadata": [], "data": {"image/png": "../../../etc/passwd", "text/plain": {}}}
    ),
    "a MIME type that is none": lambda: _with_output(
        {"output_type": "display_data", "metadata": {}, "data": {HTML: "x", "": None, "a" * 10_000: [[]]}}
    ),
    "cells of no turn": lambda: without("TurnStarted"),
    "turns of no question": lambda: without("QuestionAsked"),
    "ends without beginnings": lambda: chained([STARTED, REPLY, DONE, ANSWER, FINISHED, FINISHED]),
    "beginnings without ends": lambda: chained([STARTED, ASKED, TURN, CELL, CALL]),
    "everything twice": lambda: chained([*WHOLE, *WHOLE]),
    "a call that ends twice": lambda: chained([*WHOLE[:7], REPLY, REPLY, *WHOLE[7:]]),
    "a call that ends before it begins": lambda: chained([*WHOLE[:5], REPLY, CALL, *WHOLE[7:]]),
    "a call of an unknown cell": lambda: changed("SubcallRequested", cell=77),
    "a call whose name is a path": lambda: changed("SubcallRequested", call=UP),
    "numbers that are negative": lambda: changed("CellStarted", cell=-1, turn=-1),
    "numbers that jump": lambda: changed("TurnStarted", turn=2**53 + 1),
    "settings that are none": lambda: changed("RunStarted", settings={"memory": "x", UP: [], "model": None}),
    "tools that are none": lambda: changed("RunStarted", tools=[{}, {"name": UP, "parameters": 7, "doc": []}]),
    "a wrong usage": lambda: changed("RunFinished", usage={HTML: {"calls": -5, "cost_usd": -1e308}}),
    "many sessions": lambda: chained([STARTED, *((STARTED, f"s{number}") for number in range(2000))]),
    "many outputs": lambda: chained([*WHOLE[:5], *[_output({"output_type": "stream"})] * 2000, *WHOLE[5:]]),
}


def _origin(run: str) -> dict[str, Any]:
    return {"how": "fork", "run": run, "records": 10**15, "head": UP, "turn": -1}


def _deep() -> bytes:
    return b"[" * 900 + b"]" * 900


def _with_text(text: str) -> list[dict[str, Any]]:
    """Return a whole run with `text` wherever there may be any."""
    keys = {"question", "model", "sub_model", "source", "code", "prompt", "text", "answer", "python_version"}
    texts = [{name: text if name in keys else value for name, value in one.items()} for one in WHOLE]
    texts[8]["source"] = "FINAL"
    return [
        *texts[:5],
        _output({"output_type": "stream", "name": "stdout", "text": text}),
        _output({"output_type": "error", "ename": text, "evalue": text, "traceback": [text]}),
        *texts[5:9],
        {"type": "Notice", "message": text},
        texts[9] | {"usage": {text: {"calls": 1}}, "error": text, "message": text},
    ]


def _output(output: dict[str, Any]) -> dict[str, Any]:
    return {"type": "CellOutput", "cell": 1, "output": output}


def _with_output(output: dict[str, Any]) -> bytes:
    return chained([*WHOLE[:5], _output(output), *WHOLE[5:]])


def write(folder: Path, data: bytes) -> Path:
    """Write a recording into a new run's folder, with its context beside it, and return the file's path."""
    folder.mkdir(parents=True)
    (folder / "contexts").mkdir()
    (folder / "contexts" / DIGEST).write_bytes(b"context")
    path = folder / "events.jsonl"
    path.write_bytes(data)
    return path


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(target: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return make


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _context_fifo(path: Path) -> None:
    place = path.parent / "contexts" / DIGEST
    place.unlink()
    os.mkfifo(place)


def _context_link(path: Path) -> None:
    place = path.parent / "contexts" / DIGEST
    place.unlink()
    place.symlink_to("/etc/passwd")


def _context_changed(path: Path) -> None:
    (path.parent / "contexts" / DIGEST).write_bytes(b"c0ntext")


def _no_contexts(path: Path) -> None:
    shutil.rmtree(path.parent / "contexts")


def _grown(path: Path) -> None:
    os.truncate(path, 200 * 2**30)  # takes no room


FILES: dict[str, Callable[[Path], None]] = {
    "a FIFO": _fifo,
    "a folder": _folder,
    "no file": lambda path: path.unlink(),
    "a link to nothing": _link("nothing"),
    "a link to itself": _link("events.jsonl"),
    "a device without end": _link("/dev/zero"),
    "an empty device": _link("/dev/null"),
    "a file of the system": _link("/etc/passwd"),
    "memory of its reader": _link("/proc/self/mem"),
    "200 GiB of nothing": _grown,
    "a context that is a FIFO": _context_fifo,
    "a context that is a link": _context_link,
    "contexts that are gone": _no_contexts,
    "a context of other bytes": _context_changed,
}
"""What may be in the place of a recording, or beside it: each is made of a sound one."""


def hostile() -> list[str]:
    """Return the names of all of them."""
    return [*BYTES, *FILES]


def make(name: str, folder: Path) -> Path:
    """Make one of them as a run's folder and return the path of its `events.jsonl`."""
    if name in BYTES:
        return write(folder, BYTES[name]())
    path = write(folder, GOOD)
    FILES[name](path)
    return path
