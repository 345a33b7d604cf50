"""Claims: what the audit says of an engine, each with what was tried, what was seen, and a verdict that can be no."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from rlm_kernel.sandbox.spec import SandboxSpec

Verdict = Literal["pass", "fail", "known-limit"]
Facts = TypeVar("Facts")

OWN_KERNELS = ("runsc", "kata")
"""OCI runtimes, by the start of their name, whose containers do not share the host's kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One claim's outcome. `reason` says why it is no pass, `remedy` how to make it one."""

    claim: str
    title: str
    tried: str
    seen: str
    verdict: Verdict
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found, before it is told which claim it belongs to."""

    verdict: Verdict
    seen: str
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a check may have to know of the session that the facts come from; `oci_runtime` is the engine's name."""

    spec: SandboxSpec
    uid: int
    oci_runtime: str

    @property
    def own_kernel(self) -> bool:
        """Whether the container has a kernel of its own, so that what it shows is not the host's."""
        return self.oci_runtime.startswith(OWN_KERNELS)


Check = Callable[[Facts, Scene], Outcome]


def held(seen: str) -> Outcome:
    """The claim holds."""
    return Outcome("pass", seen)


def broken(seen: str, remedy: str, reason: str = "") -> Outcome:
    """The claim does not hold."""
    return Outcome("fail", seen, reason, remedy)


def limited(seen: str, reason: str, remedy: str) -> Outcome:
    """The claim does not hold in full, for a known reason."""
    return Outcome("known-limit", seen, reason, remedy)


UNCHECKED = "run the audit again; if it stays so, the engine or the image is not what this package expects"


@dataclass(slots=True)
class Claims(Generic[Facts]):
    """Claims that are judged by the same facts, in the order in which they were made."""

    _checks: dict[str, tuple[str, str, Check[Facts]]] = field(default_factory=dict)

    def claim(self, name: str, title: str, *, tried: str) -> Callable[[Check[Facts]], Check[Facts]]:
        """Make the decorated check decide the claim `name`."""

        def add(check: Check[Facts]) -> Check[Facts]:
            self._checks[name] = (title, tried, check)
            return check

        return add

    @property
    def names(self) -> tuple[str, ...]:
        """Every claim."""
        return tuple(self._checks)

    def judge(self, facts: Facts, scene: Scene) -> Iterator[Finding]:
        """Yield each claim's finding."""
        for name, (title, tried, check) in self._checks.items():
            yield found(name, title, tried, check(facts, scene))

    def unchecked(self, why: str) -> Iterator[Finding]:
        """Yield a failure for each claim: what could not be checked is not taken to hold."""
        for name, (title, tried, _) in self._checks.items():
            yield found(name, title, tried, not_checked(why))


def found(name: str, title: str, tried: str, outcome: Outcome) -> Finding:
    """Return the finding of the claim `name`."""
    return Finding(
        claim=name,
        title=title,
        tried=tried,
        seen=outcome.seen,
        verdict=outcome.verdict,
        reason=outcome.reason,
        remedy=outcome.remedy,
    )


def not_checked(why: str) -> Outcome:
    """A claim about which nothing is known does not hold."""
    return broken(f"nothing: {why}", UNCHECKED, "could not be checked")
