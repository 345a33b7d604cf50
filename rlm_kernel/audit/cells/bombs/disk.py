"""Runs in a cell: fills every place that can be written, tells how much went in, and leaves them full."""

import errno
import json
import os
from typing import Any

context: dict[str, Any]

ceiling = 2 * max(context["disk"].values())
got = {}
stopped = "No space left on device"
for folder in context["disk"]:
    got[folder] = 0
    file = os.open(f"{folder}/full", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        while got[folder] < ceiling:
            got[folder] += os.write(file, bytes(2**18))
        stopped = "nothing"
    except OSError as error:
        if error.errno != errno.ENOSPC:
            stopped = str(error)
print(json.dumps({"got": got, "stopped": stopped}), flush=True)
while stopped != "nothing":
    try:
        os.write(file, b"x")
    except OSError:
        pass
