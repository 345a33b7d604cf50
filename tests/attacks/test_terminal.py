"""Escape sequences on their way from a cell to the user's terminal and into the recording."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from rlm_kernel.events import AnswerGiven
from rlm_kernel.recording import EVENTS_FILE, read_events

REPOSITORY = Path(__file__).parents[2]
EVIL = "\x1b]52;c;cm0=\x07\x1b]0;title\x07\x1bP+q544e\x1b\\\x1b[6n\x1b[?1049h\x9b2J\u202eevil"
FORBIDDEN = (b"\x1b]", b"\x1bP", b"\x1b[6n", b"\x1b[?1049h", b"\xc2\x9b", "\u202e".encode(), b"\x07")


def test_nothing_steers_the_terminal(tmp_path: Path, image: str) -> None:
    """Output, results, errors, names, sub-calls and the answer reach a terminal without their escape sequences; the
    recording keeps every character, as JSON, in files that only the user can read."""
    assert image
    cells = [
        f"evil = {EVIL!r}\nprint(evil)\nevil",
        "import os; os.write(1, evil.encode())",
        "display({'text/plain': evil, evil: evil}, raw=True)",
        "raise type(evil.replace(chr(0), ''), (Exception,), {})(evil)",
        "llm_query(evil)",
        "llm_query(evil, model=evil)",
        "FINAL(evil + ' ../../etc/passwd <script>')",
    ]
    script = tmp_path / "script.md"
    script.write_text("".join(f"--- turn ---\n```repl\n{cell}\n```\n" for cell in cells))
    sub = tmp_path / "sub.md"
    sub.write_text(f"--- turn ---\n{EVIL}\n")
    context = tmp_path / f"{EVIL.replace('/', '')}.txt"
    context.write_text(f"context {EVIL}")
    arguments = [
        "run",
        "-v",
        "--model",
        f"scripted:{script}",
        "--sub-model",
        f"scripted:{sub}",
        "--context",
        str(context),
    ]
    status, shown = _in_a_terminal([*arguments, f"What? {EVIL}"], tmp_path / "state")
    assert status == 0, shown.decode(errors="replace")
    assert b"evil ../../etc/passwd <script>" in shown
    assert [sequence for sequence in FORBIDDEN if sequence in shown] == []
    (recording,) = (tmp_path / "state").rglob(EVENTS_FILE)
    assert (recording.parent.stat().st_mode & 0o777, recording.stat().st_mode & 0o777) == (0o700, 0o600)
    raw = recording.read_bytes()
    assert not {byte for byte in raw if byte < 0x20 and byte != 0x0A}
    (given,) = (record.event for record in read_events(recording) if isinstance(record.event, AnswerGiven))
    assert given.answer.startswith(EVIL.strip())


def _in_a_terminal(arguments: list[str], state: Path) -> tuple[int, bytes]:
    """Run the command line on a terminal and return its status and all that the terminal was sent."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "rlm_kernel", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=REPOSITORY,
        env=os.environ | {"XDG_STATE_HOME": str(state), "TERM": "xterm-256color"},
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # what a terminal's other end says when the last one closed it
            pass
        finally:
            os.close(ours)
        return process.wait(30), shown
