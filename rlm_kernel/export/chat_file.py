"""Training data of many runs in one file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from rlm_kernel.errors import RecordingDamaged, RecordingError
from rlm_kernel.export.chat import Chosen, chat_lines
from rlm_kernel.export.write import refuse_existing, whole_file
from rlm_kernel.recording import Recording, events_file

CHAT_FILE = "chat.jsonl"


@dataclass(slots=True, kw_only=True)
class ChatExported:
    """What was written: `path`, None for a stream; how many `lines` of how many `runs`; the `problems` of others."""

    path: Path | None
    lines: int = 0
    runs: int = 0
    problems: list[str] = field(default_factory=list)


def export_chat(
    recordings: Iterable[str | Path],
    output: str | Path | BinaryIO,
    chosen: Chosen | None = None,
    *,
    force: bool = False,
) -> ChatExported:
    """Write the conversations of `recordings`, folders of runs or their files, as chat JSONL.

    A folder as `output` gets the file `chat.jsonl`. A damaged recording is read as far as it goes, one that can't be
    read is passed over, and `problems` tell of both. Raise `ConfigError` where nothing can be written, or a file is
    there and not `force`.
    """
    chosen = chosen or Chosen()
    if not isinstance(output, str | Path):
        return _write(recordings, output, chosen, ChatExported(path=None))
    path = Path(output) / CHAT_FILE if Path(output).is_dir() else Path(output)
    refuse_existing(path, force=force)
    with whole_file(path, force=force) as file:
        return _write(recordings, file, chosen, ChatExported(path=path))


def _write(recordings: Iterable[str | Path], file: BinaryIO, chosen: Chosen, exported: ChatExported) -> ChatExported:
    encoder = msgspec.json.Encoder()
    for path in map(events_file, map(Path, recordings)):
        before = exported.lines
        try:
            with Recording(path, partial=True) as recording:
                for line in chat_lines(recording, chosen):
                    file.write(encoder.encode(line) + b"\n")
                    exported.lines += 1
                if recording.damage is not None:
                    raise RecordingDamaged(f"{recording.damage}; what stands before it was read")
        except RecordingError as error:
            exported.problems.append(str(error))
        except RecursionError:
            exported.problems.append(f"{path}: it nests deeper than can be written")
        exported.runs += exported.lines > before
    return exported
