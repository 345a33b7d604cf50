"""Runs in a cell: a regular expression that never ends, in a C loop that lets nothing else run."""

import re

re.match("(a+)+$", "a" * 60 + "b")
