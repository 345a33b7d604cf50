"""What this machine has: Python, room on disk and in memory, user ids, and what else is installed."""

from __future__ import annotations

import os
import platform
import pwd
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rlm_kernel.config import Settings
from rlm_kernel.doctor.check import Check, note, ok, problem
from rlm_kernel.errors import MissingExtra, UnknownModel
from rlm_kernel.models.local import LOCAL_MODELS, weights_file

MIB = 2**20
LITTLE_ROOM, ENOUGH_ROOM = 256 * MIB, 2048 * MIB
OLDEST_PYTHON = (3, 11)
FEW_IDS = 64


def check_python(settings: Settings, version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Iterator[Check]:
    """Look at the version of Python."""
    seen = f"{'.'.join(map(str, version))} at {sys.executable}"
    if version[:2] < OLDEST_PYTHON:
        yield problem(
            "python", "Python is 3.11 or newer", seen, "install Python 3.11 and make a virtual environment of it"
        )
    else:
        yield ok("python", "Python is 3.11 or newer", seen)


def check_state_folder(settings: Settings) -> Iterator[Check]:
    """Write and link a file where recordings and contexts are to be, and look at the room there."""
    folder = settings.state_dir
    present = next((place for place in (folder, *folder.parents) if place.exists()), Path("/"))
    title = "The state folder can be used"
    remedy = f"sudo chown -R {_user()} {shlex.quote(str(present))}, or choose another one with --state-dir"
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=present) as place:
            file = Path(place) / "file"
            file.write_bytes(b"x")
            (Path(place) / "link").hardlink_to(file)
    except OSError as error:
        yield problem("state-folder", title, f"{folder}: {error.strerror}", remedy)
        return
    places = [place for place in (settings.contexts_dir, settings.sessions_dir) if place.exists()]
    if len({place.stat().st_dev for place in places}) > 1:
        seen = f"{settings.contexts_dir} and {settings.sessions_dir} are on different file systems"
        yield problem(
            "state-folder", title, seen, "mount one file system over all of it: contexts are linked, not copied"
        )
        return
    yield ok("state-folder", title, f"{folder}{'' if folder.exists() else ', which will be made'}")
    yield _room(
        "disk", "There is room for contexts and recordings", present, "free some, or choose another --state-dir"
    )


def _room(name: str, title: str, place: Path, remedy: str) -> Check:
    free = shutil.disk_usage(place).free
    seen = f"{free / MIB:,.0f} MiB free at {place}"
    if free < LITTLE_ROOM:
        return problem(name, title, seen, remedy)
    return ok(name, title, seen) if free >= ENOUGH_ROOM else note(name, title, seen, remedy)


def check_user_ids(
    settings: Settings, accounts: Callable[[], list[pwd.struct_passwd]] = pwd.getpwall
) -> Iterator[Check]:
    """Count the ids of the range that have no account here; sessions pass over those that have one."""
    first, last = settings.uid_first, settings.uid_last
    taken = sum(first <= account.pw_uid <= last for account in accounts())
    free, seen = last - first + 1 - taken, f"{first} to {last}, {taken} of them with accounts"
    title = "There are user ids for sessions"
    remedy = "choose another range with --uid-first and --uid-last"
    if free <= 0:
        yield problem("user-ids", title, seen, remedy)
    elif taken or free < FEW_IDS:
        yield note("user-ids", title, seen, remedy)
    else:
        yield ok("user-ids", title, f"{first} to {last}, without any account")


def check_memory(settings: Settings, meminfo: Path = Path("/proc/meminfo")) -> Iterator[Check]:
    """Compare the memory that is free with what a session may take."""
    title = "There is memory for a session"
    try:
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        yield note("memory", title, "this system does not tell how much is free")
        return
    seen = f"{free / MIB:,.0f} MiB free, {settings.memory / MIB:,.0f} MiB for each session"
    if free < settings.memory:
        yield problem("memory", title, seen, f"end other programs, or give sessions less: --memory {_less(free)}m")
    else:
        yield ok("memory", title, seen)


def _less(free: int) -> int:
    return max(224, free // MIB * 3 // 4)


def check_local_model(settings: Settings) -> Iterator[Check]:
    """Look whether the small model for the demo is installed."""
    title = "The demo's small model is installed"
    for name in LOCAL_MODELS:
        try:
            yield ok("local-model", title, str(weights_file(name)))
        except (MissingExtra, UnknownModel) as error:
            yield note(
                "local-model", title, "not installed; only `rlm-kernel demo` and local: models need it", str(error)
            )


def check_other_runtimes(settings: Settings) -> Iterator[Check]:
    """Tell which other container tools are there; none of them is needed."""
    found = {name: shutil.which(name) for name in ("runsc", "podman", "docker")}
    seen = ", ".join(f"{name}: {path or 'no'}" for name, path in found.items())
    yield ok(
        "tools", "Other container tools", f"{seen} ({platform.system()} {platform.release()}, {platform.machine()})"
    )


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
