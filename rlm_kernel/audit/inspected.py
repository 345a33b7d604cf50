"""The container items of the CIS Docker Benchmark (1.6 and later, section 5), read from `docker inspect`."""

from __future__ import annotations

from typing import Any

from rlm_kernel.audit.claims import Claims, Outcome, Scene, broken, held, limited
from rlm_kernel.sandbox.spec import GUEST_SHARED

Inspected = dict[str, Any]
CIS: Claims[Inspected] = Claims()
ASKED = "docker inspect"
REMEDY = "let the engine create what is asked for; something between this program and the engine changes it"


def _host(inspected: Inspected) -> dict[str, Any]:
    found = inspected.get("HostConfig")
    return found if isinstance(found, dict) else {}


def _expect(name: str, item: str, title: str, *wanted: Any) -> None:
    """Make a claim about one field of HostConfig, which has to be there with one of the values `wanted`."""

    @CIS.claim(f"cis.{item}", title, tried=f"read {name} from {ASKED}")
    def check(inspected: Inspected, scene: Scene) -> Outcome:
        host = _host(inspected)
        if name not in host:
            return broken("the engine does not say", REMEDY, "could not be checked")
        seen = f"{name} is {host[name]!r}"[:300]
        return held(seen) if host[name] in wanted else broken(seen, REMEDY)


@CIS.claim("cis.5.2", "An AppArmor profile is in force", tried=f"read AppArmorProfile from {ASKED}")
def _apparmor(inspected: Inspected, scene: Scene) -> Outcome:
    profile = inspected.get("AppArmorProfile", "")
    label = inspected.get("ProcessLabel", "")
    if (profile and profile != "unconfined") or label:
        return held(str(profile or label))
    return limited(
        str(profile or "no profile"),
        "the engine's machine has neither AppArmor nor SELinux (5.3), or the engine does not use it",
        "enable AppArmor (Debian, Ubuntu) or SELinux (Fedora, RHEL) there and restart the engine",
    )


@CIS.claim("cis.5.4", "All capabilities are dropped and none is added", tried=f"read CapDrop and CapAdd from {ASKED}")
def _capabilities(inspected: Inspected, scene: Scene) -> Outcome:
    host = _host(inspected)
    dropped, added = host.get("CapDrop") or [], host.get("CapAdd") or []
    seen = f"dropped {len(dropped)}, added {added}"[:300]
    # Podman names the capabilities that were dropped, Docker says ALL.
    return held(seen) if dropped and not added and ("ALL" in dropped or len(dropped) > 5) else broken(seen, REMEDY)


_expect("Privileged", "5.5", "The container is not privileged", False)


@CIS.claim("cis.5.6", "No folder of the host is mounted but the session's own, read-only", tried=f"read {ASKED}")
def _mounts(inspected: Inspected, scene: Scene) -> Outcome:
    mounts = [mount for mount in inspected.get("Mounts") or [] if mount.get("Type") != "tmpfs"]
    foreign = [mount for mount in mounts if mount.get("Destination") != GUEST_SHARED or mount.get("RW") is not False]
    binds = _host(inspected).get("Binds") or []
    if foreign or binds:
        return broken(f"{[mount.get('Destination') for mount in foreign] + binds}"[:300], REMEDY)
    return held(", ".join(str(mount.get("Destination")) for mount in mounts) or "nothing is mounted")


@CIS.claim("cis.5.9", "No port is open to the host", tried=f"read the ports from {ASKED}")  # with 5.8 and 5.14
def _ports(inspected: Inspected, scene: Scene) -> Outcome:
    bound = _host(inspected).get("PortBindings") or (inspected.get("NetworkSettings") or {}).get("Ports") or {}
    return broken(f"{bound}"[:300], REMEDY) if bound else held("none")


_expect("NetworkMode", "5.10", "There is no network, neither the host's nor docker0 (5.30)", "none")


def _limit(name: str, item: str, title: str, most: str, factor: float = 1) -> None:
    @CIS.claim(f"cis.{item}", title, tried=f"read {name} from {ASKED}")
    def check(inspected: Inspected, scene: Scene) -> Outcome:
        value = _host(inspected).get(name)
        seen = f"{name} is {value!r}"
        within = isinstance(value, int) and 0 < value <= getattr(scene.spec, most) * factor
        return held(seen) if within else broken(seen, REMEDY, f"at most {getattr(scene.spec, most) * factor:.0f}")


_limit("Memory", "5.11", "Memory is limited", "memory")


@CIS.claim("cis.5.12", "The processor's time is limited", tried=f"read NanoCpus or the quota from {ASKED}")
def _processor(inspected: Inspected, scene: Scene) -> Outcome:
    host = _host(inspected)
    quota, period = host.get("CpuQuota") or 0, host.get("CpuPeriod") or 100_000
    cores = (host.get("NanoCpus") or 0) / 1e9 or quota / period
    seen = f"{cores:g} CPUs"
    return held(seen) if 0 < cores <= scene.spec.cpus * 1.001 else broken(seen, REMEDY)


_expect("ReadonlyRootfs", "5.13", "The root file system is read-only", True)


@CIS.claim("cis.5.15", "The container is never restarted, and removed at its end", tried=f"read {ASKED}")
def _restart(inspected: Inspected, scene: Scene) -> Outcome:
    host = _host(inspected)
    policy = (host.get("RestartPolicy") or {}).get("Name") or "no"
    seen = f"policy {policy!r}, AutoRemove {host.get('AutoRemove')}"
    return held(seen) if policy == "no" and host.get("AutoRemove") is True else broken(seen, REMEDY)


_expect("PidMode", "5.16", "The host's processes are not shared", "", "private")
_expect("IpcMode", "5.17", "The host's shared memory is not shared", "private", "shareable")
_expect("Devices", "5.18", "No device of the host is passed in", [], None)


@CIS.claim("cis.5.19", "Open files and core dumps are limited", tried=f"read Ulimits from {ASKED}")
def _ulimits(inspected: Inspected, scene: Scene) -> Outcome:
    limits = {
        str(limit["Name"]).removeprefix("RLIMIT_").lower(): limit for limit in _host(inspected).get("Ulimits") or []
    }
    hard = {name: limit.get("Hard") for name, limit in limits.items()}
    within = isinstance(hard.get("nofile"), int) and 0 < hard["nofile"] <= scene.spec.nofile and hard.get("core") == 0
    return held(f"{hard}") if within else broken(f"{hard}", REMEDY)


@CIS.claim("cis.5.20", "No mount is propagated to the host", tried=f"read the mounts' propagation from {ASKED}")
def _propagation(inspected: Inspected, scene: Scene) -> Outcome:
    modes = [str(mount.get("Propagation", "")) for mount in inspected.get("Mounts") or []]
    seen = ", ".join(mode or "none" for mode in modes) or "no mounts"
    return broken(seen, REMEDY) if any("shared" in mode for mode in modes) else held(seen)


_expect("UTSMode", "5.21", "The host's name is not shared", "", "private")


@CIS.claim("cis.5.22", "The default seccomp profile is not disabled", tried=f"read SecurityOpt from {ASKED}")
def _seccomp(inspected: Inspected, scene: Scene) -> Outcome:
    options = _options(inspected)
    if any(option.replace(":", "=", 1) == "seccomp=unconfined" for option in options):
        return broken(f"{options}"[:300], REMEDY)
    return held(f"{[option[:60] for option in options]}")


_expect("CgroupParent", "5.25", "The container is in no cgroup of somebody else's choice", "")


@CIS.claim("cis.5.26", "New privileges are refused", tried=f"read SecurityOpt from {ASKED}")
def _no_new_privileges(inspected: Inspected, scene: Scene) -> Outcome:
    options = [option.replace(":", "=", 1) for option in _options(inspected)]
    wanted = {"no-new-privileges", "no-new-privileges=true"}
    return held("no-new-privileges") if wanted & set(options) else broken(f"{options}"[:300], REMEDY)


def _options(inspected: Inspected) -> list[str]:
    return [str(option) for option in _host(inspected).get("SecurityOpt") or []]


@CIS.claim("cis.5.28", "The image is one exact build, not `latest`", tried=f"read the image from {ASKED}")
def _image(inspected: Inspected, scene: Scene) -> Outcome:
    named, digest = (inspected.get("Config") or {}).get("Image"), str(inspected.get("Image", ""))
    seen = f"{named}, {digest[:19]}"
    exact = named == scene.spec.image and ":" in scene.spec.image and not scene.spec.image.endswith(":latest")
    return held(seen) if exact and digest else broken(seen, "run `rlm-kernel image build`")


_limit("PidsLimit", "5.29", "Processes and threads are limited", "pids")


@CIS.claim("cis.5.31", "The host's user ids are not chosen on purpose", tried=f"read UsernsMode from {ASKED}")
def _user_namespace(inspected: Inspected, scene: Scene) -> Outcome:
    mode = _host(inspected).get("UsernsMode")
    return held(f"UsernsMode is {mode!r}") if mode in ("", None, "private") else broken(f"{mode!r}", REMEDY)


@CIS.claim("cis.5.32", "The engine's socket is not mounted", tried=f"looked for it in {ASKED}")
def _socket(inspected: Inspected, scene: Scene) -> Outcome:
    sources = [str(mount.get("Source", "")) for mount in inspected.get("Mounts") or []]
    sources += [str(bind).partition(":")[0] for bind in _host(inspected).get("Binds") or []]
    mounted = [source for source in sources if source.endswith(".sock")]
    return broken(", ".join(mounted), REMEDY) if mounted else held("no socket among the mounts")


@CIS.claim("log-driver", "Output can't fill the host's disk", tried=f"read LogConfig from {ASKED}")
def _log(inspected: Inspected, scene: Scene) -> Outcome:
    driver = (_host(inspected).get("LogConfig") or {}).get("Type")
    return held("the log driver is none") if driver == "none" else broken(f"the log driver is {driver!r}", REMEDY)
