"""`rlm-kernel runs`: the group, which lists the runs where no command is named."""

from __future__ import annotations

import click

from rlm_kernel.cli.options import InOrder
from rlm_kernel.cli.runs.bundles import pack, unpack, verify
from rlm_kernel.cli.runs.compare import compare
from rlm_kernel.cli.runs.delete import delete, prune
from rlm_kernel.cli.runs.listing import list_runs
from rlm_kernel.cli.runs.show import show


class _Runs(InOrder):
    """A group that lists the runs where no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` in front of its options."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Runs)
def runs() -> None:
    """List the recorded runs, or do something with them.

    Without a command they are listed. A RUN is an id, the beginning or the end of one that no other has, `last`, or a
    path.
    """


runs.add_command(list_runs)
runs.add_command(show)
runs.add_command(compare)
runs.add_command(delete)
runs.add_command(prune)
runs.add_command(pack)
runs.add_command(unpack)
runs.add_command(verify)
