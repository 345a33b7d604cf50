"""A scene for the audit's checks, without any engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_kernel.audit.claims import Scene
from rlm_kernel.sandbox.spec import SandboxSpec

MIB = 1024 * 1024


@pytest.fixture
def scene() -> Scene:
    """A session of user 40001 under runc, with the default limits."""
    spec = SandboxSpec(
        image="rlm-kernel-sandbox:0123456789ab",
        folder=Path("/nowhere"),
        memory=1024 * MIB,
        cpus=1,
        pids=256,
        nofile=1024,
        tmp_size=64 * MIB,
        first_uid=40_000,
        last_uid=49_999,
        carrier="socket",
    )
    return Scene(spec=spec, uid=40_001, oci_runtime="runc")
