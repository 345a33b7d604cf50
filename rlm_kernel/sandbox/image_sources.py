"""What the sandbox image is made from, in a checkout and in an installed wheel alike."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rlm_kernel.errors import SandboxError

REPOSITORY = "rlm-kernel-sandbox"
LIBRARIES_REPOSITORY = "rlm-kernel-libraries"
BASE_REPOSITORY = "rlm-kernel-base"
_PACKAGE = Path(__file__).parent.parent
_CODE = ("guest", "toolkit")
"""The packages that the image has too, as `rlm_guest` and so on."""


@dataclass(frozen=True, slots=True)
class ImageSources:
    """The files that decide the image: `Dockerfile.sandbox`, the folder `images`, and the code in `package`."""

    dockerfile: Path
    images: Path
    package: Path

    @classmethod
    def find(cls, package: Path = _PACKAGE) -> ImageSources:
        """Return the sources beside or in `package`, rlm_kernel's folder. Raise `SandboxError` if they are missing."""
        root = next(
            (root for root in (package / "_image", package.parent) if (root / "Dockerfile.sandbox").is_file()), None
        )
        if root is None:
            raise SandboxError(f"{package} has no Dockerfile.sandbox beside it: install rlm_kernel again")
        return cls(root / "Dockerfile.sandbox", root / "images", package)

    @property
    def lock(self) -> Path:
        """The pinned wheels of the image, with their hashes."""
        return self.images / "requirements.lock"

    @property
    def base_script(self) -> Path:
        """The program that makes the tar of the Debian base."""
        return self.images / "base.sh"

    def guest_files(self) -> dict[str, Path]:
        """Return the last layer's inputs: the guest's code and its Dockerfile, by their names in the build context."""
        code = {
            f"code/rlm_{part}/{path.relative_to(self.package / part).as_posix()}": path
            for part in _CODE
            for path in (self.package / part).rglob("*.py")
        }
        return {"Dockerfile": self.dockerfile} | dict(sorted(code.items()))

    def libraries_files(self) -> dict[str, Path]:
        """Return all other inputs but the wheels, which the lock stands for, by their names in the build context."""
        images = {f"images/{path.name}": path for path in self.images.iterdir() if path.is_file()}
        return {"Dockerfile": self.images / "Dockerfile.libraries"} | dict(sorted(images.items()))

    def tag(self) -> str:
        """Return the image's name, which changes when and only when an input does."""
        return f"{REPOSITORY}:{digest({**self.libraries_files(), **self.guest_files()})}"

    def libraries_tag(self) -> str:
        """Return the name of the image below the guest's code."""
        return f"{LIBRARIES_REPOSITORY}:{digest(self.libraries_files())}"

    def base_tag(self) -> str:
        """Return the name of the Debian base that these sources make."""
        return f"{BASE_REPOSITORY}:{digest({path.name: path for path in self.images.glob('*base*')})}"


def digest(files: Mapping[str, Path]) -> str:
    """Return 12 hexadecimal digits that stand for the names and contents of `files`, and for nothing else."""
    total = hashlib.sha256()
    for name, path in sorted(files.items()):
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:12]


def write_context(file: IO[bytes], files: Mapping[str, Path]) -> None:
    """Write `files` to `file` as a tar that is the same for the same names and contents."""
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, path in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.mode = 0o644
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(entry, content)
