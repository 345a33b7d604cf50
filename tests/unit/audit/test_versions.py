"""Which versions have which known escapes, packages with backported fixes among them."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_kernel.audit.claims import Scene
from rlm_kernel.audit.engine import ENGINE, EngineFacts, runc_version
from rlm_kernel.audit.versions import ESCAPES, compare, unfixed

PROC_WRITES = {"CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"}
BOOKWORM = "Debian GNU/Linux 12 (bookworm)"


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("1.0.0~rc6", "1.0.0~rc93"),
        ("1.0.0~rc95", "1.0.0"),
        ("1.0.0", "1.0.0+ds1-1"),
        ("1.1.5+ds1-1", "1.1.5+ds1-1+deb12u1"),
        ("1.1.9", "1.1.12"),
        ("1.1.7-0ubuntu1~22.04.2", "1.1.7-0ubuntu1~22.04.10"),
        ("1.2.8", "1.3.0~rc1"),
        ("1.3.6+ds1-1", "1.10"),
    ],
)
def test_versions_are_ordered_as_debian_does(smaller: str, larger: str) -> None:
    """A tilde sorts before the end, numbers by their value."""
    assert compare(smaller, larger) < 0 < compare(larger, smaller)
    assert compare(smaller, smaller) == 0


@pytest.mark.parametrize(
    ("version", "open_ones"),
    [
        ("1.1.11", {"CVE-2024-21626", "CVE-2024-45310", *PROC_WRITES, "CVE-2026-41579"}),
        ("1.1.12", {"CVE-2024-45310", *PROC_WRITES, "CVE-2026-41579"}),
        ("1.2.7", {*PROC_WRITES, "CVE-2026-41579"}),
        ("1.2.8", {"CVE-2026-41579"}),
        ("1.3.2", {*PROC_WRITES, "CVE-2026-41579"}),
        ("1.3.3", {"CVE-2026-41579"}),
        ("1.3.6", set()),
        ("1.4.0-rc.2", {*PROC_WRITES, "CVE-2026-41579"}),
        ("1.4.0-rc.3", {"CVE-2026-41579"}),
        ("1.4.0", {"CVE-2026-41579"}),
        ("1.4.3", set()),
        ("1.5.0-rc.3", set()),
        ("1.5.1", set()),
        ("2.0.0", set()),
        ("v1.1.12-0-g51d5e94", {"CVE-2024-45310", *PROC_WRITES, "CVE-2026-41579"}),
        ("1.0.0-rc6", {escape.name for escape in ESCAPES if escape.part == "runc"}),
        # packages
        ("1.1.5+ds1-1", {"CVE-2024-21626", "CVE-2024-45310", *PROC_WRITES, "CVE-2026-41579"}),
        ("1.1.5+ds1-1+deb12u1", {"CVE-2024-45310", *PROC_WRITES, "CVE-2026-41579"}),
        ("1.1.5+ds1-1+deb12u2", {"CVE-2024-45310", *PROC_WRITES, "CVE-2026-41579"}),
        ("1.0.0~rc93+ds1-5+deb11u2", {"CVE-2024-21626", "CVE-2024-45310", *PROC_WRITES, "CVE-2026-41579"}),
        ("1.0.0~rc93+ds1-5+deb11u5", {"CVE-2024-45310", *PROC_WRITES, "CVE-2026-41579"}),
        ("1.1.15+ds1-2+b4", {*PROC_WRITES, "CVE-2026-41579"}),
        ("1.3.3+ds1-2", {"CVE-2026-41579"}),
        ("1.3.6+ds1-1", set()),
        ("1.1.7-0ubuntu1~22.04.1", {"CVE-2024-21626", "CVE-2024-45310", *PROC_WRITES, "CVE-2026-41579"}),
        ("1.1.7-0ubuntu1~22.04.2", {"CVE-2024-45310", *PROC_WRITES, "CVE-2026-41579"}),
        ("1.1.7-0ubuntu1~20.04.1", {"CVE-2024-21626", "CVE-2024-45310", *PROC_WRITES, "CVE-2026-41579"}),
        ("1.3.3-0ubuntu1~24.04.3", {"CVE-2026-41579"}),
        ("unknown", {escape.name for escape in ESCAPES if escape.part == "runc"}),
    ],
)
def test_what_a_runc_has(version: str, open_ones: set[str]) -> None:
    """Fixed releases of each series count, and packages that mend an older one, but not another release's package."""
    assert {escape.name for escape, _ in unfixed("runc", version)} == open_ones


@pytest.mark.parametrize(
    ("commit", "version", "told"),
    [
        ("1.1.5+ds1-1+deb12u1", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1"),
        ("v1.1.12-0-g51d5e94", "1.1.12", "1.1.12"),
        ("", "1.3.3-0ubuntu1~24.04.3", "1.3.3-0ubuntu1~24.04.3"),
    ],
)
def test_the_packages_version_is_found(commit: str, version: str, told: str) -> None:
    """Debian tells its package's version as the commit, Ubuntu as the version; others tell none."""
    assert runc_version(version_of(version, commit)) == told
    assert runc_version({}) == ""


def version_of(runc: str, commit: str = "", platform: str = "") -> dict[str, Any]:
    """Return what `docker version` says of an engine with this runc."""
    component = {"Name": "runc", "Version": runc, "Details": {"GitCommit": commit}}
    return {"Version": "29.1.0", "Platform": {"Name": platform}, "Components": [component]}


@pytest.mark.parametrize(
    ("runc", "system", "oci_runtime", "verdict"),
    [
        ("1.4.3", "Ubuntu 24.04", "runc", "pass"),
        ("1.3.3", "Ubuntu 24.04", "runc", "known-limit"),  # only what is of little weight is open
        ("1.1.11", "Ubuntu 24.04", "runc", "fail"),
        ("1.1.11", BOOKWORM, "runc", "fail"),  # upstream's own package, which has a fix
        ("1.1.5+ds1-1", BOOKWORM, "runc", "fail"),
        ("1.1.5+ds1-1+deb12u1", BOOKWORM, "runc", "known-limit"),
        ("1.1.5+ds1-1+deb12u1", "Debian GNU/Linux 14 (forky)", "runc", "fail"),
        ("1.1.5+ds1-1", BOOKWORM, "runsc", "pass"),
    ],
)
def test_a_runc_that_could_be_mended_fails(
    scene: Scene, runc: str, system: str, oci_runtime: str, verdict: str
) -> None:
    """Where a fix is to be had the claim fails; where there is none it is a known limit that names gVisor."""
    facts = EngineFacts(version=version_of(runc), info={"OperatingSystem": system}, address="unix:///x")
    found = {finding.claim: finding for finding in ENGINE.judge(facts, with_runtime(scene, oci_runtime))}["engine.runc"]
    assert found.verdict == verdict
    if verdict != "pass":
        assert "runsc" in found.remedy
        assert "CVE-20" in found.seen


@pytest.mark.parametrize(("desktop", "verdict"), [("4.44.2", "fail"), ("4.44.3", "pass"), ("4.50.0", "pass")])
def test_docker_desktop(scene: Scene, desktop: str, verdict: str) -> None:
    """Versions of Docker Desktop with a known escape are named."""
    version = version_of("1.4.3", platform=f"Docker Desktop {desktop} (192736)")
    facts = EngineFacts(version=version, info={}, address="unix:///x")
    found = {finding.claim: finding.verdict for finding in ENGINE.judge(facts, scene)}
    assert found["engine.desktop"] == verdict


def with_runtime(scene: Scene, oci_runtime: str) -> Scene:
    """Return `scene` under another OCI runtime."""
    return Scene(spec=scene.spec, uid=scene.uid, oci_runtime=oci_runtime)
