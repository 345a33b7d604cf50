"""The audit: attacks on the user's own engine, and a report of what held."""

from rlm_kernel.audit.audit import Subject, audit
from rlm_kernel.audit.claims import Finding, Verdict
from rlm_kernel.audit.report import Report

__all__ = ["Finding", "Report", "Subject", "Verdict", "audit"]
