"""An audit's findings together, for people and programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec

from rlm_kernel.audit.claims import Finding, Verdict
from rlm_kernel.types import JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one audit found; `engine` and `oci_runtime` name what was looked at."""

    engine: str
    oci_runtime: str
    seconds: float
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no claim failed; known limits alone are no failure."""
        return bool(self.findings) and not self.count("fail")

    def count(self, verdict: Verdict) -> int:
        """Return how many claims got `verdict`."""
        return Counter(finding.verdict for finding in self.findings)[verdict]

    def as_json(self) -> dict[str, JSON]:
        """Return everything as JSON."""
        return {
            "passed": self.passed,
            "engine": self.engine,
            "oci_runtime": self.oci_runtime,
            "seconds": round(self.seconds, 1),
            "counts": {
                "pass": self.count("pass"),
                "fail": self.count("fail"),
                "known-limit": self.count("known-limit"),
            },
            "findings": [msgspec.to_builtins(finding) for finding in self.findings],
        }
