"""`rlm-kernel run job.json`: a job's nodes, one after another."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from gc import freeze
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlm_kernel.cli import exits
from rlm_kernel.cli.options import Output
from rlm_kernel.cli.outcome import as_json, described, write_answer, write_summary
from rlm_kernel.cli.running import run_cancellable

if TYPE_CHECKING:
    from rlm_kernel.assembly.jobs import NodeResult, OpenJob


def run_job_file(path: Path, options: Mapping[str, str | None], output: Output, root: Path | None) -> int:
    """Check the job, run its nodes with their progress shown, write each answer, and return the exit status."""
    from rlm_kernel.assembly.jobs import open_job  # noqa: PLC0415 - its imports take too long for `--help`

    job = run_cancellable(open_job(path, options=options, root=root))
    freeze()  # as for a single run
    return _run_as_json(job) if output.as_json else _run(job, output)


def _run(job: OpenJob, output: Output) -> int:
    results: list[NodeResult] = []
    for node in job.nodes:
        if len(job.nodes) > 1:
            output.say(f"node {len(results) + 1} of {len(job.nodes)}: {node.id}")
        progress = output.progress()
        with progress:
            results.append(run_cancellable(job.answer(node, tuple(results), progress, progress.listener)))
        if not output.quiet:
            write_summary(results[-1].result)
        if len(job.nodes) > 1:
            click.echo(f"=== {node.id} ===")
        write_answer(results[-1].result)
        sys.stdout.flush()  # a later node's failure must not take it along
    return _status(results)


def _run_as_json(job: OpenJob) -> int:
    """Write one list: an object for each node that ran, the last one with its error if it failed."""
    results: list[NodeResult] = []
    objects: list[dict[str, Any]] = []
    status = 0
    for node in job.nodes:
        try:
            results.append(run_cancellable(job.answer(node, tuple(results))))
        except BaseException as error:  # noqa: BLE001 - the outermost edge: what is there is written, whatever came
            kind, message, status = described(error)
            objects.append({"node": node.id, "error": kind, "message": message, "exit_status": status})
            break
        objects.append({"node": node.id, **as_json(results[-1].result)})
    click.echo(json.dumps(objects))
    return status or _status(results)


def _status(results: list[NodeResult]) -> int:
    return exits.PARTIAL if any(each.result.status == "partial" for each in results) else 0
