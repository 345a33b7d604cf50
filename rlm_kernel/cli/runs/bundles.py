"""`rlm-kernel runs pack`, `unpack` and `verify`: a recorded run as one file, and whether it is as it was written."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from rlm_kernel.cli.text import clean
from rlm_kernel.config import resolve
from rlm_kernel.config.values import parse_size
from rlm_kernel.errors import RecordingError

if TYPE_CHECKING:
    from rlm_kernel.recording import Verified
    from rlm_kernel.recording.bundle.manifest import Manifest

STDOUT = "-"
LEVELS = click.IntRange(1, 19)

_state_dir = click.option("--state-dir", metavar="FOLDER", help="Where recordings and contexts are kept.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Write one JSON object to standard output, errors too.")


def _size(_context: click.Context, _option: click.Parameter, text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_max_size = click.option(
    "--max-size", default="4g", show_default=True, metavar="SIZE", callback=_size, help="What it may have unpacked."
)


@click.command()
@click.argument("run")
@click.option(
    "-o", "--output", metavar="FILE", help="Where to; RUN's id and .tar.zst if not given, - is standard output."
)
@click.option("--contexts/--no-contexts", default=True, show_default=True, help="Include the run's contexts.")
@click.option("--level", type=LEVELS, default=3, show_default=True, help="How hard to compress.")
@click.option("--force", is_flag=True, help="Write over a FILE that is there.")
@_as_json
@_state_dir
def pack(
    run: str, *, output: str | None, contexts: bool, level: int, force: bool, as_json: bool, state_dir: str | None
) -> None:
    """Pack a recorded run into one file.

    Packing the same run again gives the same bytes.
    """
    from rlm_kernel.recording import find_run  # noqa: PLC0415 - its imports take too long for `--help`
    from rlm_kernel.recording.bundle.pack import Packing, write_bundle  # noqa: PLC0415

    settings = resolve({"state_dir": state_dir})
    packing = Packing(store=settings.contexts_dir, contexts=contexts, level=level)
    path = find_run(settings.state_dir, run)
    if output == STDOUT:
        if as_json:
            raise click.UsageError("--json and the bundle can't both go to standard output")
        if sys.stdout.isatty():
            raise click.UsageError("a bundle is no text for a terminal: write it to a file with -o, or into a pipe")
        write_bundle(path, sys.stdout.buffer, packing)
        return
    wanted = None if output is None else Path(output)
    with _written(wanted, force=force) as (file, name):
        manifest = write_bundle(path, file, packing)
        target = name(manifest.run)
    missing = [one.digest for one in manifest.contexts if not one.included]
    if as_json:
        click.echo(json.dumps({"bundle": str(target), "size": target.stat().st_size, **_facts(manifest)}))
        return
    click.echo(clean(str(target)))
    if missing and contexts:
        click.echo(f"{len(missing)} of its contexts are not here any more, and so not in it", err=True)


@click.command()
@click.argument("file")
@_max_size
@_as_json
@_state_dir
def unpack(file: str, *, max_size: int, as_json: bool, state_dir: str | None) -> None:
    """Unpack a bundle among the recorded runs.

    It may come from anybody: it is checked whole before it is a run, and never takes the place of one.
    """
    from rlm_kernel.recording.bundle.unpack import unpack as unpacked  # noqa: PLC0415 - as above
    from rlm_kernel.storage import user_path  # noqa: PLC0415

    folder, manifest = unpacked(user_path(file), resolve({"state_dir": state_dir}).state_dir, most_bytes=max_size)
    if as_json:
        click.echo(json.dumps({"recording": str(folder), **_facts(manifest)}))
    else:
        click.echo(clean(str(folder)))


@click.command()
@click.argument("run")
@click.option("--head", metavar="DIGEST", help="The head to hold it against; the one kept here if not given.")
@_max_size
@_as_json
@_state_dir
def verify(run: str, *, head: str | None, max_size: int, as_json: bool, state_dir: str | None) -> None:
    """Tell whether a recording, or a bundle, is as it was written."""
    from rlm_kernel.recording import verify as verified  # noqa: PLC0415 - as above
    from rlm_kernel.recording.bundle.unpack import opened_run  # noqa: PLC0415

    where = resolve({"state_dir": state_dir}).state_dir
    with opened_run(where, run, most_bytes=max_size) as path:
        found = verified(path, where, head)
    if as_json:
        click.echo(json.dumps({"head": found.head.digest, **_told(found)}))
    else:
        click.echo("\n".join(_lines(found)))


def _lines(found: Verified) -> Iterator[str]:
    yield f"OK: {found.head.records} records, each following on the one before"
    yield f"head: {found.head.digest}"
    if found.against is None:
        yield (
            "Held against no head, as none was given or kept here: someone who computed the chain anew, or cut off its "
            "end, would not show."
        )
    else:
        yield f"It is {found.against}."
    if not found.finished:
        yield "It does not end with its run's end: that was killed, or goes on, or the end was cut off."
    if found.torn:
        yield f"Behind the last record {found.torn} bytes of one are left that was not written whole."
    if found.contexts:
        yield f"contexts beside it, which are what their names say: {len(found.contexts)}"


def _told(found: Verified) -> dict[str, Any]:
    return {
        "records": found.head.records,
        "against": found.against,
        "torn": found.torn,
        "finished": found.finished,
        "contexts": list(found.contexts),
    }


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "run": manifest.run,
        "records": manifest.records,
        "head": manifest.head,
        "contexts": [{"digest": one.digest, "included": one.included} for one in manifest.contexts],
    }


@contextlib.contextmanager
def _written(wanted: Path | None, *, force: bool) -> Iterator[tuple[BinaryIO, Callable[[str], Path]]]:
    """Give the block a new file, and what names it `wanted` or after a run once it is whole; else it is removed."""
    from rlm_kernel.recording.bundle.manifest import SUFFIX  # noqa: PLC0415 - as above
    from rlm_kernel.storage import unfinished_file  # noqa: PLC0415

    folder = Path() if wanted is None else wanted.parent
    try:
        if wanted is not None and not force and os.path.lexists(wanted):
            raise FileExistsError(None, "it is there; --force writes over it", str(wanted))
        descriptor, part = unfinished_file(folder)
        with os.fdopen(descriptor, "wb") as file:

            def named(run: str) -> Path:
                target = wanted or folder / f"{run}{SUFFIX}"
                if not force and os.path.lexists(target):
                    raise FileExistsError(None, "it is there; --force writes over it", str(target))
                file.flush()
                os.fsync(descriptor)
                return part.rename(target)

            try:
                yield file, named
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise RecordingError(f"can't write {error.filename or folder}: {error.strerror}") from None
