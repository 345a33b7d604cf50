"""Runs in a cell: starts threads until no more can be had, tells how many, and goes on trying."""

import json
import threading
from typing import Any

context: dict[str, Any]

got, ceiling = 0, context["pids"] * 2
stopped, end = "nothing", threading.Event()
while got < ceiling:
    try:
        threading.Thread(target=end.wait, daemon=True).start()
        got += 1
    except RuntimeError as error:
        stopped = str(error)
        break
print(json.dumps({"got": {"threads": got}, "stopped": stopped}), flush=True)
while stopped != "nothing":
    try:
        threading.Thread(target=end.wait, daemon=True).start()
    except RuntimeError:
        pass
