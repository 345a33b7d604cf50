"""Add an OCI runtime to a dockerd's configuration: add_runtime.py DAEMON_JSON NAME PATH [ARGUMENT...]."""

import json
import sys
from pathlib import Path

target, name, path, *arguments = sys.argv[1:]
file = Path(target)
config = json.loads(file.read_text()) if file.exists() else {}
config.setdefault("runtimes", {})[name] = {"path": path, "runtimeArgs": arguments}
file.parent.mkdir(parents=True, exist_ok=True)
new = file.with_name(f"{file.name}.new")
new.write_text(json.dumps(config, indent=4) + "\n")
new.replace(file)
