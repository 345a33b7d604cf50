"""Runs in a cell: prints as much as it can until it is stopped."""

line = "x" * 100_000
while True:
    print(line)
