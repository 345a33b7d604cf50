"""What the audit and the doctor found, as a table; what containers and engines said is cleaned first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm_kernel.cli.text import one_line

if TYPE_CHECKING:
    from rlm_kernel.audit import Report
    from rlm_kernel.doctor import Check

STYLES = {"pass": "green", "known-limit": "yellow", "fail": "bold red"} | {
    "ok": "green",
    "note": "yellow",
    "problem": "bold red",
}
WIDTH = 120
"""Columns where there is no terminal that says how many it has."""
LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a verdict, what it is about, and lines below that."""

    verdict: str
    name: str
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows and the words that sum them up."""

    rows: tuple[Row, ...]
    summary: str


def audit_table(report: Report) -> Listing:
    """Return an audit's findings, failures last, where a reader looks first."""
    rows = (
        Row(
            finding.verdict,
            finding.claim,
            finding.title,
            tuple(
                f"{label}: {text}"
                for label, text in (
                    ("tried", finding.tried),
                    ("seen", finding.seen),
                    ("why", finding.reason),
                    ("remedy", finding.remedy),
                )
                if text
            ),
        )
        for finding in report.findings
    )
    counts = f"{report.count('pass')} hold, {report.count('known-limit')} known limits, {report.count('fail')} failed"
    where = f"{report.engine}, containers under {report.oci_runtime or 'an unknown runtime'}"
    order = list(STYLES)
    return Listing(
        tuple(sorted(rows, key=lambda row: order.index(row.verdict))),
        f"{len(report.findings)} claims: {counts} ({where}; {report.seconds:.0f} s)",
    )


def doctor_table(checks: Sequence[Check]) -> Listing:
    """Return what the doctor saw, in the order in which it looked."""
    rows = (
        Row(check.state, check.name, check.title, (check.seen, *([f"mend: {check.remedy}"] if check.remedy else [])))
        for check in checks
    )
    problems = sum(check.state == "problem" for check in checks)
    summary = f"{problems} problem{'s' if problems > 1 else ''}" if problems else "this machine is ready"
    return Listing(tuple(rows), summary)


def write_table(listing: Listing) -> None:
    """Write `listing` to standard output, in colours and in the terminal's width where it is one."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    with console.capture() as written:
        console.print(_grid(listing.rows))
        console.print(Text(f"\n{one_line(listing.summary, LONGEST)}"))
    click.echo(written.get(), nl=False)


def _grid(rows: Iterable[Row]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        text = Text(one_line(row.title))
        text.append(f"  [{one_line(row.name)}]", style="dim")
        for line in row.lines:
            text.append(f"\n{one_line(line, LONGEST)}", style="dim" if row.verdict in ("pass", "ok") else "")
        grid.add_row(Text(row.verdict, style=STYLES.get(row.verdict, "")), text)
    return grid
