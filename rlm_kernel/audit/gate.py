"""The runtime's own refusal: readings that are weaker than what was asked for must not get past it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from rlm_kernel.audit.claims import Finding, Scene, broken, found, held
from rlm_kernel.errors import SandboxRefused
from rlm_kernel.guest.wire import PROTOCOL_VERSION
from rlm_kernel.sandbox.verify import GVISOR_HIDES, read_hello
from rlm_kernel.types import JSON

CLAIM = ("sandbox.refusal", "A sandbox that is weaker than asked for is refused", "weakened each reading in turn")
WEAKER: dict[str, Any] = {
    "pid": 2,
    "uid": 0,
    "gid": 0,
    "groups": [0],
    "cap_eff": "0000003fffffffff",
    "cap_prm": "0000000000000001",
    "cap_inh": "0000000000000001",
    "cap_bnd": "00000000a80425fb",
    "cap_amb": None,
    "no_new_privs": False,
    "seccomp": 0,
    "rootfs_read_only": False,
    "tmpfs": {},
    "pids_max": None,
    "memory_max": None,
    "memory_swap_max": 2**30,
    "cpu_max": None,
    "core": 2**30,
    "nofile": [2**20, 2**20],
    "interfaces": ["lo", "eth0"],
}


def refusal(seen: dict[str, JSON], scene: Scene) -> Iterator[Finding]:
    """Yield whether the session's own reading passes, as it did, and each weaker one is refused."""
    weaker = {name: reading for name, reading in WEAKER.items() if name not in _hidden(scene)}
    passed = [name for name, reading in weaker.items() if not _is_refused(seen | {name: reading}, scene)]
    if passed:
        yield found(*CLAIM, broken(f"let through: {', '.join(passed)}", "report this"))
    elif _is_refused(seen, scene):
        yield found(*CLAIM, broken("the session's own reading is refused too", "report this", "could not be checked"))
    else:
        yield found(*CLAIM, held(f"the engine's sandbox passed, {len(weaker)} of {len(weaker)} weaker ones did not"))


def _is_refused(seen: dict[str, JSON], scene: Scene) -> bool:
    hello = {"type": "hello", "protocol": PROTOCOL_VERSION, "facts": seen}
    try:
        read_hello(msgspec.json.encode(hello), scene.spec, scene.uid, shared=False, hidden=_hidden(scene))
    except SandboxRefused:
        return True
    return False


def _hidden(scene: Scene) -> frozenset[str]:
    return GVISOR_HIDES if scene.own_kernel else frozenset()
