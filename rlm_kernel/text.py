"""Escape sequences of terminals, as everything that is shown to a user or a model is freed of them."""

from __future__ import annotations

import re

ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\n\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"  # titles, links, clipboard
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor, erase
    r"|\x1b[ -/]*[0-~]"
)
"""A string that does not end on its line is not taken for one, so that no sequence hides the lines after it."""
