"""The wall clock of cells: the real one, or one that is set to an instant and ticks on from there."""

import sys
import time

CLOCK = "rlm_clock"
"""Where a request's metadata has the instant."""


def set_wall_clock(instant: float | None) -> None:
    """Let all that reads the time of day see `instant`, in seconds since 1970, or the real time again if that is None.

    What a cell set itself is undone. Clocks that measure time, `time.monotonic` and such, go on as they are.
    """
    if instant is None and "time_machine" not in sys.modules:
        return
    import time_machine  # type: ignore[import-not-found]  # noqa: PLC0415  for those who set clocks

    travel = time_machine.travel(instant or 0.0)
    while time_machine.traveller_stack:
        travel.stop()
    if instant is not None:
        _mend()
        travel.start()


def _mend() -> None:
    """Let the two functions that time_machine leaves out follow `time.time`."""
    ctime, asctime = time.ctime, time.asctime
    if ctime.__module__ == time.__name__:  # else it is done
        time.ctime = lambda seconds=None, /: ctime(time.time() if seconds is None else seconds)
        time.asctime = lambda *moment: asctime(*(moment or (time.localtime(),)))
