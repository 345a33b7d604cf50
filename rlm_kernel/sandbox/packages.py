"""What is installed in the sandbox image: its build notes it in a file, and the image has that as a label."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from io import BytesIO

import docker

from rlm_kernel.sandbox.container import LABEL, remove_container
from rlm_kernel.sandbox.engine import engine_errors
from rlm_kernel.sandbox.owner import owner

PACKAGES_LABEL = f"{LABEL}.packages"
PACKAGES_FILE = "/opt/rlm/packages"
"""Made by images/prepare.sh: names and versions as `name=version`, with commas between."""


def noted_packages(client: docker.APIClient, image: str) -> str:
    """Return what is in an image's file, out of a container that never runs. It blocks; raise `SandboxError`."""
    with engine_errors(f"read what is installed in {image}"):
        made = client.create_container(image, command=["true"], labels={f"{LABEL}.owner": owner()})
        try:
            pieces, _ = client.get_archive(made["Id"], PACKAGES_FILE)
            with tarfile.open(fileobj=BytesIO(b"".join(pieces))) as tar:
                file = tar.extractfile(tar.next() or "")
                return file.read().decode().strip() if file is not None else ""
        finally:
            remove_container(client, made["Id"])


def labelled_packages(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return the versions, by name, that a container's labels tell (its image's, that is); nothing where they don't."""
    entries = [entry.partition("=") for entry in (labels or {}).get(PACKAGES_LABEL, "").split(",")]
    return {name: version for name, _, version in entries if name and version}
