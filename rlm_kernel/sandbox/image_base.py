"""The image that a sandbox image begins with: Python's official one, or one made from Debian's packages."""

from __future__ import annotations

import docker
import requests
from docker.errors import APIError

from rlm_kernel.errors import ImageMissing, SandboxError
from rlm_kernel.sandbox.engine import engine_errors
from rlm_kernel.sandbox.image_build import Progress, architecture, build, follow, image_id, run_program
from rlm_kernel.sandbox.image_sources import ImageSources
from rlm_kernel.storage import cache_folder, unfinished_folder

PYTHON_BASE = "python:3.11-slim-bookworm"
REGISTRY_DEADLINE = 15


def choose_base(client: docker.APIClient, sources: ImageSources, base: str, progress: Progress) -> str:
    """Return the name of the image to build on, which the engine has then if it is one of ours to choose.

    `base` is what `ensure_image` says. Raise `ImageMissing` if there is none, and `SandboxError`.
    """
    if base == "auto":
        if image_id(client, PYTHON_BASE) or _pulled(client, PYTHON_BASE, progress):
            return PYTHON_BASE
        progress(f"No registry gives {PYTHON_BASE}; taking a base from Debian packages instead")
    elif base != "debian":
        return base
    tag = sources.base_tag()
    if not image_id(client, tag):
        _make_debian_base(client, sources, tag, progress)
    return tag


def _pulled(client: docker.APIClient, name: str, progress: Progress) -> bool:
    """Fetch an image; False where no registry answers, or one answers and then doesn't give it."""
    if not _registry_has(client, name):
        return False
    progress(f"Fetching {name}")
    try:
        with engine_errors(f"fetch {name}"):
            follow(client.pull(name, stream=True, decode=True), f"fetch {name}", progress)
    except SandboxError as error:
        progress(str(error))
        return False
    return True


def _registry_has(client: docker.APIClient, name: str) -> bool:
    """Ask the registry at once: where none can be reached, a pull takes minutes to say so."""
    usual, client.timeout = client.timeout, REGISTRY_DEADLINE
    try:
        client.inspect_distribution(name)  # type: ignore[no-untyped-call]
    except (APIError, requests.RequestException):
        return False
    finally:
        client.timeout = usual
    return True


def _make_debian_base(client: docker.APIClient, sources: ImageSources, tag: str, progress: Progress) -> None:
    with unfinished_folder(cache_folder()) as folder:
        tar = folder / "base.tar"
        try:
            run_program(["sh", str(sources.base_script), str(tar), architecture(client)], progress)
        except SandboxError as error:
            raise ImageMissing(
                f"the sandbox image has no base: making one from Debian packages failed. Make a registry with "
                f"{PYTHON_BASE} reachable, load that image with `docker load`, name another one with "
                f"`rlm-kernel image build --base IMAGE`, or repair this: {error}"
            ) from None
        build(client, {"Dockerfile": sources.images / "Dockerfile.base", "base.tar": tar}, tag, "scratch", progress)
