"""A run's export, to a file that is whole or not there, or to any stream."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from rlm_kernel.errors import ConfigError
from rlm_kernel.export.about import About
from rlm_kernel.export.formats import FORMATS, Format
from rlm_kernel.export.markdown import write_markdown
from rlm_kernel.export.notebook import write_notebook
from rlm_kernel.export.page import write_page
from rlm_kernel.export.story import Story
from rlm_kernel.recording import Recording, events_file
from rlm_kernel.storage import unfinished_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written: `path`, None for a stream; `warnings` say what the recording lacks, `damage` where it ends."""

    path: Path | None
    run: str
    warnings: tuple[str, ...]
    damage: str | None


def export_run(
    recording: str | Path,
    output: str | Path | BinaryIO,
    *,
    to: Format | None = None,
    node: str = "",
    shorten: int | None = None,
    force: bool = False,
) -> Exported:
    """Write the run whose recording is at `recording`, a folder or its file, as a document.

    `to` is what `output`'s name ends with if not given; a folder gets a file named for the run. `node` is the session
    to write, the run's own if empty. `shorten` is how many characters each text has at most. A file that exists is only
    replaced with `force`, and there is a whole file or none. A damaged recording is written as far as it goes. Raise
    `ConfigError` and `RecordingError`.
    """
    with Recording(events_file(Path(recording)), partial=True) as opened:
        about = About(opened, node)
        if isinstance(output, str | Path):
            wanted = to or _format_of(Path(output))
            path = _target(Path(output), about.started.run, wanted, force=force)
            with whole_file(path, force=force) as file:
                damage = _write(opened, wanted, file, node, shorten)
        else:
            if to is None:
                raise ConfigError(f"say in which format: {', '.join(FORMATS)}")
            path = None
            damage = _write(opened, to, output, node, shorten)
        return Exported(path=path, run=about.started.run, warnings=tuple(about.warnings()), damage=damage)


@contextlib.contextmanager
def whole_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Let the block write what is at `path`, private to the user, once the block has ended well; else nothing is.

    Raise `ConfigError` if there is a file and not `force`, or none can be written.
    """
    try:
        descriptor, part = unfinished_file(path.parent)
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb", buffering=2**18) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            _put_in_place(part, path, force=force)
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _put_in_place(part: Path, path: Path, *, force: bool) -> None:
    if force:
        part.replace(path)
        return
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise ConfigError(f"{path} is there already; --force replaces it") from None
    except OSError:  # a file system without links
        refuse_existing(path, force=False)
        part.replace(path)


def _target(output: Path, run: str, to: Format, *, force: bool) -> Path:
    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in run)[:100]
    path = output / f"{name}.{to}" if output.is_dir() else output
    refuse_existing(path, force=force)
    return path


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise `ConfigError` if there is something at `path` that may not be replaced."""
    if path.is_symlink() or path.exists():
        if not path.is_file():
            raise ConfigError(f"{path} is no ordinary file; write to standard output with -o -")
        if not force:
            raise ConfigError(f"{path} is there already; --force replaces it")


def _format_of(output: Path) -> Format:
    ending = output.suffix.lower().removeprefix(".")
    for name in FORMATS:
        if name == ending or (not ending and name == "ipynb"):
            return name
    raise ConfigError(f"what format is {output}? Say so with --to: {', '.join(FORMATS)}")


def _write(recording: Recording, to: Format, file: BinaryIO, node: str, shorten: int | None) -> str | None:
    """Write the document, and return where the recording's damage is, if there is any."""
    if to == "jsonl":
        if shorten is not None:
            raise ConfigError("--shorten is not for jsonl, which holds the records as they are")
        _write_records(recording, node, file)
        return recording.damage
    story = Story(recording, node, shorten)
    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="\n", write_through=False)
    try:
        if to == "ipynb":
            write_notebook(story.about, story.parts(), text.write)
        elif to == "html":
            write_page(f"Run {story.about.started.run}", story.parts(), text.write)
        else:
            write_markdown(story.parts(), text.write)
        text.flush()
    finally:
        text.detach()
    return story.damage


class _Node(msgspec.Struct, frozen=True):
    node: str = ""


_NODE = msgspec.json.Decoder(_Node)


def _write_records(recording: Recording, node: str, file: BinaryIO) -> None:
    """Write the lines as they are; those of a session and of the ones below it, if it is not the run's own."""
    for seq in range(len(recording)):
        line = recording.line(seq)
        if node:
            its = _NODE.decode(line).node
            if its != node and not its.startswith(f"{node}/"):
                continue
        file.write(line + b"\n")
