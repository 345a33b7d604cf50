"""The doctor: what a machine has and lacks for sessions, before the first one."""

from rlm_kernel.doctor.check import Check, State
from rlm_kernel.doctor.doctor import examine

__all__ = ["Check", "State", "examine"]
