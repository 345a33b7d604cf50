"""Text before it is shown or sent: put together, freed of terminals' escape sequences and halves of characters."""

from __future__ import annotations

import re

ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\n\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"  # titles, links, clipboard
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor, erase
    r"|\x1b[ -/]*[0-~]"
)
"""A string that does not end on its line is not taken for one, so that no sequence hides the lines after it."""


def joined(text: object) -> str:
    """Return a text that nbformat lets be a list of lines as one."""
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def encodable(text: str) -> str:
    """Return `text` with each lone surrogate, which UTF-8 can't carry, as a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
