"""What a bundle is: one run's folder as one file, a tar archive packed with Zstandard.

Its members are `bundle.json` (a `Manifest`), `contexts/<digest>` for each context that is included, and `events.jsonl`,
in this order, which is that of their names. Whoever made it can have lied in all of them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from rlm_kernel.errors import BundleInvalid, RecordingTooNew
from rlm_kernel.recording.folder import EVENTS_FILE, is_run_id
from rlm_kernel.recording.verify import CONTEXTS, is_digest

BUNDLE_VERSION = 1
MANIFEST = "bundle.json"
SUFFIX = ".tar.zst"
WINDOW = 2**23
"""Bytes that whoever unpacks a bundle has to hold; levels above 19 would need more."""
MOST_CONTEXTS = 10_000
MANIFEST_LIMIT = 4 * 2**20

_Amount = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class BundledContext(msgspec.Struct, frozen=True, kw_only=True):
    """A context of the run; without `included` the bundle has its digest alone, and `size` may be 0 for unknown."""

    digest: str
    size: _Amount
    included: bool


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle holds. `head` is SHA-256 of the last of `records` lines, `size` that of `events.jsonl` in bytes."""

    bundle: int = BUNDLE_VERSION
    run: str
    records: _Amount
    head: str
    size: _Amount
    contexts: list[BundledContext]
    package_version: str

    def members(self) -> list[tuple[str, int]]:
        """Return the names and sizes of what follows on the manifest, in order."""
        contexts = [(f"{CONTEXTS}/{one.digest}", one.size) for one in self.contexts if one.included]
        return [*contexts, (EVENTS_FILE, self.size)]


class _Version(msgspec.Struct):
    bundle: int


def read_manifest(data: bytes) -> Manifest:
    """Return the manifest that `data` is. Raise `RecordingTooNew` or `BundleInvalid`."""
    try:
        version = msgspec.json.decode(data, type=_Version).bundle
        if version > BUNDLE_VERSION:
            raise RecordingTooNew(
                f"the bundle is of version {version}, and this package reads up to {BUNDLE_VERSION}. Install a later "
                "rlm_kernel."
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleInvalid(f"{MANIFEST} is no manifest: {error}") from None
    digests = [one.digest for one in manifest.contexts]
    if not is_run_id(manifest.run):
        raise BundleInvalid(f"{MANIFEST}: {manifest.run[:100]!r} is not a run's id")
    if not all(map(is_digest, [*digests, manifest.head])):
        raise BundleInvalid(f"{MANIFEST} holds what is no SHA-256")
    if len(digests) > MOST_CONTEXTS or digests != sorted(set(digests)):
        raise BundleInvalid(f"{MANIFEST}: its contexts are too many, or not in order")
    return manifest
