"""The formats that a run can be written in."""

from __future__ import annotations

from typing import Literal, get_args

Format = Literal["ipynb", "md", "html", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)
