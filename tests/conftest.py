"""What every test relies on."""

from __future__ import annotations

import os
import signal

import hypothesis

# How long an example takes is the machine's business: other tests run beside it.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")

# A shell starts what it puts in the background with Ctrl-C ignored, `nohup` with hang-ups ignored, and programs that
# are started from here would inherit that.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

os.environ["XDG_CONFIG_HOME"] = "/nonexistent"  # what the user has set for their own runs is nothing to the tests
