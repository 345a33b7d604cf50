"""Runs in a cell: opens files until no more can be had, tells how many, and goes on trying."""

import json
import os
from typing import Any

context: dict[str, Any]

opened: list[int] = []
ceiling = context["nofile"] * 2
stopped = "nothing"
while len(opened) < ceiling:
    try:
        opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        stopped = str(error)
        break
got = len(opened)
for _ in range(8):
    os.close(opened.pop())  # telling needs some
print(json.dumps({"got": {"files": got}, "stopped": stopped}), flush=True)
while stopped != "nothing":
    try:
        opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
