"""`rlm-kernel runs`: the recorded runs, a command in each module."""
