"""The programs that run inside, and the reading of what they print."""

from __future__ import annotations

from importlib.resources import files

from rlm_kernel.kernel import CellResult


def program(name: str) -> str:
    """Return the source of one of the programs in `cells`."""
    return (files(__package__) / "cells" / f"{name}.py").read_text(encoding="utf-8")


def printed(result: CellResult) -> bytes:
    """Return what a cell printed to its standard output."""
    texts = (str(output["text"]) for output in result.outputs if output.get("name") == "stdout")
    return "".join(texts).encode("utf-8", "backslashreplace")
