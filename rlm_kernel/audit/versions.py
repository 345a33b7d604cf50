"""Known escapes by the version of what runs containers, with distributions' backports taken into account."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

AS_OF = "November 2026"
Part = Literal["runc", "docker-desktop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Escape:
    """A known way out of containers.

    `fixed` has the first sound release of each series, oldest first; series before the first were never mended, later
    ones never broken. `backports` are packages of distributions that mend an older release. `without` are the
    distributions, as the engine names them, whose packages had no fix when this table was made.
    """

    name: str
    part: Part
    what: str
    fixed: tuple[str, ...]
    backports: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    severe: bool = True


_MASKS = ("Debian GNU/Linux 11", "Debian GNU/Linux 12", "Debian GNU/Linux 13")
ESCAPES = (
    Escape(
        name="CVE-2019-5736",
        part="runc",
        what="overwriting the host's runc through /proc/self/exe, by root in a container",
        fixed=("1.0.0~rc7",),
        backports=("1.0.0~rc6+dfsg1-2",),
    ),
    Escape(
        name="CVE-2021-30465",
        part="runc",
        what="mounts outside of the root, by swapping links in shared volumes",
        fixed=("1.0.0~rc95",),
        backports=("1.0.0~rc93+ds1-5", "1.0.0~rc6+dfsg1-3+deb10u1"),
    ),
    Escape(
        name="CVE-2024-21626",
        part="runc",
        what="a leaked descriptor of a host's folder, by an image's or exec's working directory",
        fixed=("1.1.12",),
        backports=(
            "1.0.0~rc93+ds1-5+deb11u3",
            "1.1.5+ds1-1+deb12u1",
            "1.1.7-0ubuntu1~20.04.2",
            "1.1.7-0ubuntu1~22.04.2",
            "1.1.7-0ubuntu2.2",
        ),
    ),
    Escape(
        name="CVE-2024-45310",
        part="runc",
        what="empty files and folders on the host, by swapping links in shared volumes",
        fixed=("1.1.14", "1.2.0~rc3"),
        without=_MASKS[:2],
        severe=False,
    ),
    *(
        Escape(name=name, part="runc", what=what, fixed=("1.2.8", "1.3.3", "1.4.0~rc3"), without=_MASKS)
        for name, what in (
            ("CVE-2025-31133", "writing to the host's /proc, by a link in place of the /dev/null that masks files"),
            ("CVE-2025-52565", "writing to the host's /proc, by a link in place of /dev/console's source"),
            ("CVE-2025-52881", "redirected writes to /proc while a container starts, by shared mounts"),
        )
    ),
    Escape(
        name="CVE-2026-41579",
        part="runc",
        what="limited writes on the host, by an image whose /dev is a link",
        fixed=("1.3.6", "1.4.3", "1.5.0~rc3"),
        without=_MASKS,
        severe=False,
    ),
    Escape(
        name="CVE-2025-9074",
        part="docker-desktop",
        what="the engine's interface is open to containers over the network",
        fixed=("4.44.3",),
    ),
)
_RELEASE = re.compile(r"\+(deb\d+)u|~(\d\d\.\d\d)\b")


def unfixed(part: Part, version: str, system: str = "") -> list[tuple[Escape, bool]]:
    """Return the escapes that `version` of `part` has, each with whether there is a fix to install on `system`."""
    return [
        (escape, not (_packaged(version) and system.startswith(escape.without or ("\0",))))
        for escape in ESCAPES
        if escape.part == part and not _is_fixed(escape, version)
    ]


def _is_fixed(escape: Escape, version: str) -> bool:
    if any(_mends(backport, version) for backport in escape.backports):
        return True
    upstream = _upstream(version)
    for fix in escape.fixed:
        if _series(upstream) <= _series(fix):
            return compare(upstream, fix) >= 0
    return True


def _mends(backport: str, version: str) -> bool:
    """Tell whether a package of `version` is the one that mends, or a later one of the same release and origin."""
    same = _source(version) == _source(backport) and _release(backport) in ("", _release(version))
    return same and compare(version, backport) >= 0


def _packaged(version: str) -> bool:
    """Tell whether a distribution of the Debian family made this version."""
    return bool(re.search(r"\+(ds|dfsg)|-\d+ubuntu|\+deb\d", version))


def _source(version: str) -> str:
    return version.partition("-")[0]


def _release(version: str) -> str:
    match = _RELEASE.search(version)
    return (match[1] or match[2]) if match else ""


def _upstream(version: str) -> str:
    """Return the release that `version`, a package's or a program's own, was made from: 1.4.0-rc.3 is 1.4.0~rc3."""
    text = re.sub(r"[-~]?rc[.]?(\d+)", r"~rc\1", version.strip().removeprefix("v"))
    match = re.match(r"\d+(\.\d+)*(~rc\d+)?", text)
    return match[0] if match else "0"


def _series(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


def compare(one: str, other: str) -> int:
    """Return a number below, at or above 0, as Debian orders the two versions: 1.0~rc1 < 1.0 < 1.0+ds1-1 < 1.0.1."""
    left, right = _parts(one), _parts(other)
    return (left > right) - (left < right)


def _parts(version: str) -> list[tuple[list[int], int]]:
    """Return text and number in turn as Python compares them; the end sorts after ~ and before all else."""
    found: list[tuple[list[int], int]] = []
    for word, number in re.findall(r"(\D*)(\d*)", version):
        letters = [-1 if letter == "~" else ord(letter) + (0 if letter.isalpha() else 256) for letter in word]
        found.append(([*letters, 0], int(number or 0)))
    return found
