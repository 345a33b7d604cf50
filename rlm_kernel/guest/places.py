"""Where the guest's files are: fixed in the container, elsewhere in tests."""

import os

SHARED = os.environ.get("RLM_SHARED", "/run/rlm")
"""The session's folder on the host, mounted read-only: the stream's socket and the context."""

PRIVATE = os.environ.get("RLM_PRIVATE", "/run/rlm-guest")
"""A small tmpfs of the container: the kernel's sockets and a context that came over the stream."""

SHM, TMP = os.environ.get("RLM_SHM"), os.environ.get("RLM_TMP")
"""The container's other folders in memory, which are emptied where room is needed; elsewhere there are none."""

STREAM_SOCKET = f"{SHARED}/stream"


def context_names(number: int) -> tuple[str, str]:
    """Return what the files of the context of that number are called: its blob and its index."""
    name = f"context{number or ''}"
    return name, f"{name}.json"
