"""The guest's first process: it starts the kernel, then loads the rest of itself and joins kernel and host."""

import os
import signal

from .carrier import open_carrier
from .process import KernelProcess


def main() -> int:
    """Run until the stream ends and return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a handler would let code in the container interrupt its PID 1
    carrier = open_carrier()
    kernel = KernelProcess(generation=1)
    from .loop import Relay, prepare  # noqa: PLC0415  the kernel loads meanwhile

    lease = float(os.environ.get("RLM_LEASE", "60"))
    return Relay(carrier.connect(), kernel, prepare(), lease).run()


if __name__ == "__main__":
    raise SystemExit(main())
