"""The command line."""

from rlm_kernel.cli.commands import main

__all__ = ["main"]
