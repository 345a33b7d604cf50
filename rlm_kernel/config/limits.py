"""The settings that bound a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from rlm_kernel.config.setting import Setting
from rlm_kernel.config.values import parse_duration, parse_number, parse_size, parse_whole

UnknownPrices = Literal["refuse", "tokens"]


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """What a run may take; None means no limit of ours."""

    max_turns: Annotated[
        int, Setting("Turns of the root model before it is asked for its best answer.", "N", parse_whole, least=1)
    ] = 30
    cell_timeout: Annotated[float, Setting("Time that one cell may run.", "TIME", parse_duration, least=0.1)] = 300.0
    run_timeout: Annotated[
        float | None, Setting("Time that the whole run may take.", "TIME", parse_duration, least=1, optional=True)
    ] = None
    max_subcalls: Annotated[
        int | None, Setting("Sub-calls that the whole run may make.", "N", parse_whole, least=0, optional=True)
    ] = 10_000
    max_depth: Annotated[
        int,
        Setting("The deepest session that there may be; the run's own is at 0.", "N", parse_whole, least=0, most=100),
    ] = 1
    max_input_tokens: Annotated[
        int | None, Setting("Input tokens of all calls together.", "N", parse_whole, least=1, optional=True)
    ] = None
    max_output_tokens: Annotated[
        int | None, Setting("Output tokens of all calls together.", "N", parse_whole, least=1, optional=True)
    ] = None
    max_total_tokens: Annotated[
        int | None, Setting("Tokens of all calls together, in and out.", "N", parse_whole, least=1, optional=True)
    ] = None
    max_cost: Annotated[
        float | None, Setting("What all calls may cost, in US dollars.", "USD", parse_number, least=0, optional=True)
    ] = None
    max_output_size: Annotated[
        int | None, Setting("Output of all cells together.", "SIZE", parse_size, least=1, optional=True)
    ] = 256 * 2**20
    unknown_prices: Annotated[
        UnknownPrices,
        Setting(
            "With --max-cost, a model without a known price: refuse it, or count its tokens only.",
            "CHOICE",
            str,
            choices=("refuse", "tokens"),
        ),
    ] = "refuse"
    budget_warning: Annotated[
        float | None,
        Setting("Share of a limit at which to warn.", "SHARE", parse_number, least=0, most=1, optional=True),
    ] = 0.8
    budget_percentile: Annotated[
        float | None,
        Setting(
            "Warn where a run uses more than this many percent of the earlier ones did.",
            "N",
            parse_number,
            least=1,
            most=100,
            optional=True,
        ),
    ] = 90.0
    tool_timeout: Annotated[
        float, Setting("Time that one call of a host tool may take.", "TIME", parse_duration, least=0.1)
    ] = 60.0
    max_tool_calls: Annotated[
        int, Setting("Calls of host tools in the whole run.", "N", parse_whole, least=0, most=10**9)
    ] = 1_000
    max_parallel_tools: Annotated[
        int, Setting("Calls of host tools that run at once.", "N", parse_whole, least=1, most=1_000)
    ] = 8
    max_parallel_subcalls: Annotated[
        int, Setting("Sub-calls in flight at once.", "N", parse_whole, least=1, most=10_000)
    ] = 50
