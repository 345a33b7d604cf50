"""Runs in a cell: fills memory until the system ends it, or tells that nothing did."""

import json
from typing import Any

context: dict[str, Any]

blocks: list[bytes] = []
ceiling = context["memory"] * 5 // 4
stopped = "nothing"
try:
    while len(blocks) * 2**22 < ceiling:
        blocks.append(b"x" * 2**22)
except MemoryError:
    stopped = "MemoryError"
got = len(blocks) * 2**22
del blocks
print(json.dumps({"got": {"bytes": got}, "stopped": stopped}), flush=True)
