"""Podman without root, where it can limit nothing: cgroup version 1."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from rlm_kernel.errors import SandboxRefused
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.engine import connect
from rlm_kernel.sandbox.spec import SandboxSpec
from tests.docker.conftest import watched
from tests.support.runtimes import podman_service

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a user is made for this, which takes root"),
    pytest.mark.skipif(not shutil.which("podman"), reason="there is no podman: `make runtimes` installs it"),
    pytest.mark.skipif(
        Path("/sys/fs/cgroup/cgroup.controllers").exists(), reason="this machine has cgroup version 2, which limits"
    ),
]


@pytest.fixture
def user() -> Iterator[pwd.struct_passwd]:
    """A new user with a home and user ids of its own; both go, and its processes."""
    name = f"rlm-kernel-{os.getpid()}"
    home = Path(tempfile.mkdtemp(prefix="rlm-kernel-home-"))
    subprocess.run(["useradd", "--system", "--no-create-home", "--home-dir", home, name], check=True)
    found = pwd.getpwnam(name)
    ranges = ["--add-subuids", "300000-365535", "--add-subgids", "300000-365535"]
    subprocess.run(["usermod", *ranges, name], check=True)
    shutil.chown(home, found.pw_uid, found.pw_gid)
    try:
        yield found
    finally:
        ours = [process for process in psutil.process_iter(["uids"]) if process.info["uids"].real == found.pw_uid]
        for process in ours:
            process.kill()
        psutil.wait_procs(ours, timeout=10)
        subprocess.run(["userdel", name], check=True, capture_output=True)
        shutil.rmtree(home)


@pytest.fixture
def rootless(user: pwd.struct_passwd, image: str) -> Iterator[str]:
    """The address of that user's Podman, which has the sandbox image."""
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    home = ["env", "--ignore-environment", f"--chdir={user.pw_dir}", f"HOME={user.pw_dir}"]
    paths = [f"PATH={os.environ['PATH']}", f"XDG_RUNTIME_DIR={user.pw_dir}"]
    with podman_service([*as_user, *home, *paths, "podman", "--storage-driver=overlay"], Path(user.pw_dir)) as address:
        yield address


async def test_an_engine_that_can_not_limit_is_refused(
    rootless: str, sandbox_spec: SandboxSpec, tmp_path: Path
) -> None:
    """Each limit that is not in force is named, the reason and the way out are said, and nothing was run or is left."""
    client = connect(rootless)
    try:
        async with watched(client, tmp_path):
            runtime = DockerRuntime(rootless)
            try:
                with pytest.raises(SandboxRefused, match="can limit nothing with cgroup version 1") as refusal:
                    async with runtime.open(replace(sandbox_spec, carrier="attach")):
                        pass
            finally:
                await runtime.aclose()
        for name in ("pids", "memory", "cpu", "open files"):
            assert f"the {name} limit is" in str(refusal.value)
    finally:
        client.close()
