"""The commands that look at a machine and its engine: what holds, what is missing, and how to mend it."""

from __future__ import annotations

import json

import click
import msgspec

from rlm_kernel.cli import exits
from rlm_kernel.cli.options import GroupingCommand, machine_options
from rlm_kernel.cli.progress import ProgressConsole
from rlm_kernel.cli.running import run_cancellable
from rlm_kernel.cli.table import audit_table, doctor_table, write_table
from rlm_kernel.config import resolve

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Write one JSON object to standard output.")


@click.command(cls=GroupingCommand)
@JSON_OPTION
@machine_options()
def audit(*, as_json: bool, **options: str | None) -> int:
    """Attack this engine's sandbox and tell, claim by claim, what held.

    Two sessions at most run at a time; it takes less than a minute on most machines.
    """
    from rlm_kernel.assembly.audit import audit_engine  # noqa: PLC0415 - its imports take too long for `--help`

    settings = resolve(options)
    console = ProgressConsole(stderr=True, quiet=as_json)
    with console.status("starting a session") as status:
        report = run_cancellable(audit_engine(settings, lambda finding: status.update(f"checked: {finding.title}")))
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        write_table(audit_table(report))
    return 0 if report.passed else exits.AUDIT_FAILED


@click.command(cls=GroupingCommand)
@JSON_OPTION
@machine_options("model", "sub_model")
def doctor(*, as_json: bool, **options: str | None) -> int:
    """Look whether this machine is ready, and tell how to mend it.

    It takes three seconds at most, starts nothing, and needs no engine.
    """
    from rlm_kernel.doctor import examine  # noqa: PLC0415 - as above

    checks = examine(resolve(options))
    ready = all(check.state != "problem" for check in checks)
    if as_json:
        click.echo(json.dumps({"ready": ready, "checks": [msgspec.to_builtins(check) for check in checks]}))
    else:
        write_table(doctor_table(checks))
    return 0 if ready else exits.NOT_READY
