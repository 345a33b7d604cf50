"""Counting what models use and what that costs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import TypeAlias

import msgspec

from rlm_kernel.budget import Prices
from rlm_kernel.errors import ModelError
from rlm_kernel.models.model import Completion, Model, ModelRequest, Wrapper
from rlm_kernel.models.pricing import PublishedPrices
from rlm_kernel.types import Usage

Tariff: TypeAlias = Callable[[str, Usage], float | None]
"""Return what one call cost in US dollars, from the name of the model that answered; None if that is unknown."""


class Meter:
    """What every model has used so far, failed attempts included; `usage` is per model name. `subcalls` were made.

    What it counts is counted in `above` too.
    """

    def __init__(self, above: Meter | None = None) -> None:
        self.usage: dict[str, Usage] = {}
        self.subcalls = 0
        self._above = above

    def add(self, model: str, usage: Usage) -> None:
        """Count `usage` for `model`."""
        self.usage[model] = self.usage.get(model, Usage()) + usage
        if self._above is not None:
            self._above.add(model, usage)

    def add_subcall(self) -> None:
        """Count a sub-call."""
        self.subcalls += 1
        if self._above is not None:
            self._above.add_subcall()


class Metered(Wrapper):
    """Adds the cost to each completion's usage, by `tariff`, and counts it in `meter`, which other models may share."""

    def __init__(self, model: Model, meter: Meter, tariff: Tariff) -> None:
        super().__init__(model)
        self._meter = meter
        self._tariff = tariff

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request and count it; a failed one counts with what its error says it used."""
        try:
            completion = await self._model.complete(request)
        except ModelError as error:
            if error.usage is not None:
                error.usage = self._counted(self.name, error.usage)
            raise
        return replace(completion, usage=self._counted(completion.served_by, completion.usage))

    def _counted(self, served_by: str, usage: Usage) -> Usage:
        priced = msgspec.structs.replace(usage, cost_usd=self._tariff(served_by, usage))
        self._meter.add(self.name, priced)
        return priced


def free(served_by: str, usage: Usage) -> float | None:
    """Cost nothing: what runs on this machine."""
    return 0.0


def unknown(served_by: str, usage: Usage) -> float | None:
    """Know no price: what runs on somebody's server."""
    return None


@cache
def prices_of(tariff: Tariff, model: str) -> Prices | None:
    """Return the prices of `model` for calls that are yet to be made; None if they are unknown. The first time takes
    milliseconds."""
    return Prices.of(lambda usage: tariff(model, usage))


@cache
def published(provider: str, model: str) -> Tariff:
    """Return the tariff of `model` by the prices that `provider` publishes, as the genai-prices package lists them."""

    @cache
    def listed(served_by: str) -> PublishedPrices | None:
        return _first_listed(provider, served_by, model)

    def tariff(served_by: str, usage: Usage) -> float | None:
        prices = listed(served_by)
        if prices is None:
            return None
        try:
            return prices.cost(usage)
        except ValueError:  # counts that can't be, such as more cached tokens than tokens, are the provider's mistake
            return None

    return tariff


def _first_listed(provider: str, *names: str) -> PublishedPrices | None:
    """Return the prices of the first name that has any. To find none takes 0.1 ms."""
    for name in names:
        with suppress(LookupError):
            return PublishedPrices(provider, name)
    return None


def listed_window(provider: str, model: str) -> int | None:
    """Return how many tokens `model` can read, as the genai-prices package lists it."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - it reads the whole list

    with suppress(LookupError):
        _, listed = get_snapshot().find_provider_model(model, None, provider, None)
        return listed.context_window
    return None
