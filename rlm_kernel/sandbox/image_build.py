"""What the engine and programs on this host do to make an image. Everything here blocks."""

from __future__ import annotations

import platform
import secrets
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.engine import engine_errors
from rlm_kernel.sandbox.image_sources import write_context

Progress = Callable[[str], None]

BUILD_LABEL = "io.rlm-kernel.build"
"""On every image that is built here; its value is another one for each build."""
BUILD_DEADLINE = 600
"""Seconds without a word from the engine, or for one program on the host, after which a build has failed."""
KEPT = 3
_ENGINE_CHATTER = (" ---> ", "Removing intermediate container")


def build(
    client: docker.APIClient,
    files: Mapping[str, Path],
    tag: str,
    base: str,
    progress: Progress,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Build `tag` on `base` from `files` alone, without a network, and leave no nameless image behind."""
    what, mark = f"build {tag} on {base}", secrets.token_hex(8)
    progress(f"Building {tag} on {base}")
    with tempfile.TemporaryFile() as context, engine_errors(what):
        write_context(context, files)
        context.seek(0)
        replaced = image_id(client, tag)
        replies = client.build(
            fileobj=context, custom_context=True, tag=tag, buildargs={"BASE": base, "BUILD": mark},
            labels={"org.opencontainers.image.version": tag.partition(":")[2], **(labels or {})},
            network_mode="none", rm=True, forcerm=True, decode=True, timeout=BUILD_DEADLINE,
        )  # fmt: skip
        try:
            follow(replies, what, progress)
        finally:
            client.prune_images({"dangling": True, "label": [f"{BUILD_LABEL}={mark}"]})  # type: ignore[no-untyped-call]
        if replaced not in (None, image_id(client, tag)):
            with suppress(APIError):  # a running session or another image may still use it
                client.remove_image(replaced)


def follow(replies: Iterable[dict[str, Any]], what: str, progress: Progress) -> None:
    """Pass on what the engine says until it ends. Raise `SandboxError` if it could not do `what`."""
    said: deque[str] = deque(maxlen=20)
    for reply in replies:
        if "error" in reply:
            log = "\n  ".join([*said, str(reply["error"])])
            raise SandboxError(f"could not {what}; the end of its log:\n  {log}")
        for line in str(reply.get("stream") or reply.get("status") or "").splitlines():
            if line.strip() and "progress" not in reply and not line.startswith(_ENGINE_CHATTER):
                said.append(line)
                progress(line)


def remove_old(client: docker.APIClient, repository: str, current: str, progress: Progress) -> None:
    """Remove what was built here under `repository`, but for `current`, the newest three, and what a container uses."""
    with engine_errors(f"list the images of {repository}"):
        images = client.images(name=repository, filters={"label": BUILD_LABEL})
        newest = sorted(images, key=lambda image: int(image["Created"]), reverse=True)
        names = [name for image in newest for name in image["RepoTags"] or () if name.startswith(f"{repository}:")]
        for name in names[KEPT:]:
            if name != current:
                with suppress(APIError):  # a container uses it, or another program was faster
                    client.remove_image(name)
                    progress(f"Removed {name}, which was old and unused")


def run_program(command: Sequence[str], progress: Progress) -> None:
    """Run a program on the host to its end, within `BUILD_DEADLINE`. Raise `SandboxError` with its last lines."""
    said: deque[str] = deque(maxlen=20)
    with subprocess.Popen(  # noqa: S603 - a list of our own, no shell
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        deadline = Timer(BUILD_DEADLINE, process.terminate)
        deadline.start()
        try:
            assert process.stdout is not None
            for line in map(str.rstrip, process.stdout):
                said.append(line)
                progress(line)
        except BaseException:  # Ctrl-C too: the block's end waits for the program
            process.terminate()
            raise
        finally:
            deadline.cancel()
    if process.returncode:
        raise SandboxError(f"`{' '.join(command)}` failed ({process.returncode}):\n  " + "\n  ".join(said))


def image_id(client: docker.APIClient, name: str) -> str | None:
    """Return the id of the engine's image `name`, or None if it has none."""
    return None if (found := _inspect(client, name)) is None else str(found["Id"])


def image_labels(client: docker.APIClient, name: str) -> dict[str, str] | None:
    """Return the labels of the engine's image `name`, or None if it has no such image."""
    return None if (found := _inspect(client, name)) is None else dict(found["Config"]["Labels"] or {})


def _inspect(client: docker.APIClient, name: str) -> dict[str, Any] | None:
    with engine_errors(f"look for the image {name}"):
        try:
            found: dict[str, Any] = client.inspect_image(name)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return None
        return found


def architecture(client: docker.APIClient) -> str:
    """Return the engine's architecture, in the names that Go and Debian share."""
    with engine_errors("tell its architecture"):
        return str(client.version().get("Arch") or platform.machine())
