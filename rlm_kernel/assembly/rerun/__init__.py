"""Runs a recorded run again: the ordinary controller, session and bridge, over what was recorded."""
