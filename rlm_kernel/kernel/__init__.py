"""Runs cells in the kernel of a sandbox."""

from rlm_kernel.kernel.binding import Binding, BoundContext
from rlm_kernel.kernel.client import KernelClient
from rlm_kernel.kernel.ladder import Stop
from rlm_kernel.kernel.result import CellResult, Final

__all__ = ["Binding", "BoundContext", "CellResult", "Final", "KernelClient", "Stop"]
