"""A run's budget, made of its settings, its models' prices and what earlier runs used."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from rlm_kernel.budget import Budget, Limits, Prices, Warnings
from rlm_kernel.config import Settings
from rlm_kernel.errors import ConfigError, StorageError
from rlm_kernel.events import EventSink, Notice
from rlm_kernel.recording.history import History, RunUse, usual
from rlm_kernel.types import Usage

_log = logging.getLogger(__name__)


def limits_of(settings: Settings) -> Limits:
    """Return what a run with `settings` may use."""
    return Limits(
        subcalls=settings.max_subcalls,
        input_tokens=settings.max_input_tokens,
        output_tokens=settings.max_output_tokens,
        total_tokens=settings.max_total_tokens,
        cost=settings.max_cost,
        output_size=settings.max_output_size,
        seconds=settings.run_timeout,
        turns=settings.max_turns,
        depth=settings.max_depth,
        cell_seconds=settings.cell_timeout,
        parallel_subcalls=settings.max_parallel_subcalls,
        reply_tokens=settings.max_reply_tokens,
    )


def check_prices(settings: Settings, prices: Mapping[str, Prices | None]) -> None:
    """Raise `ConfigError` if the cost is limited and a model's price is not known, unless that is accepted."""
    if settings.max_cost is None or settings.unknown_prices == "tokens":
        return
    if unknown := [name for name, known in prices.items() if known is None]:
        raise ConfigError(
            f"the price of {unknown[0]} is not known, so --max-cost can't be kept: choose a model with a known price, "
            "limit --max-total-tokens instead, or count only its tokens with --unknown-prices tokens"
        )


def open_budget(
    settings: Settings, prices: Mapping[str, Prices | None], sink: EventSink, *, plain: bool = False
) -> Budget:
    """Return the budget of a run that begins now; its warnings go to `sink`, as does a notice of uncounted costs.

    A `plain` call is asked for no best answer, and is compared with plain ones alone.
    """
    if settings.max_cost is not None:
        for name, known in prices.items():
            if known is None:
                sink.emit(Notice(message=f"the price of {name} is not known: its calls do not count for --max-cost"))
    warnings = _warnings(settings, plain=plain)
    return Budget(limits_of(settings), prices=prices, sink=sink, warnings=warnings, keeps_back=not plain)


def remember(settings: Settings, usage: Mapping[str, Usage], *, plain: bool = False) -> None:
    """Keep what a run used, for later ones to compare with; a disk that does not take it is no reason to fail."""
    used = sum(usage.values(), Usage())
    model, sub_model = _models(settings, plain=plain)
    run = RunUse(model=model, sub_model=sub_model, tokens=used.total_tokens, cost=used.cost_usd)
    try:
        History(settings.state_dir).add(run)
    except StorageError as error:
        _log.info("what the run used was not kept: %s", error)


def _warnings(settings: Settings, *, plain: bool) -> Warnings:
    share, percentile = settings.budget_warning, settings.budget_percentile
    if percentile is None:
        return Warnings(share=share)
    runs = History(settings.state_dir).like(*_models(settings, plain=plain))
    tokens = usual((run.tokens for run in runs), percentile)
    return Warnings(
        share=share,
        percentile=percentile,
        usual_cost=usual((run.cost for run in runs), percentile),
        usual_tokens=None if tokens is None else int(tokens),
    )


def _models(settings: Settings, *, plain: bool) -> tuple[str, str]:
    return settings.model, "" if plain else settings.sub_model or settings.model
