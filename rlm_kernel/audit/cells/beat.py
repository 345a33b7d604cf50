"""Runs in a cell, again and again: counts how often, so that a kernel that was replaced is found out."""

beats: int = globals().get("beats", 0) + 1
print(beats)
