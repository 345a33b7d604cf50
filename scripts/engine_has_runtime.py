"""Exit with 0 if the engine has the OCI runtime that is named, and with 3 if it has not."""

import sys

from rlm_kernel.sandbox.engine import connect

client = connect(deadline=10)
found = sys.argv[1] in (client.info().get("Runtimes") or {})
client.close()
sys.exit(0 if found else 3)
