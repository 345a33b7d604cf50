"""Answers the sub-calls that a sandbox's cells make."""

from rlm_kernel.bridge.bridge import Bridge, KnownFailure

__all__ = ["Bridge", "KnownFailure"]
