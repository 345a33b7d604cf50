"""What calls cost by the published prices, by a table of our own: the price list's sum takes 0.1 ms for each call."""

from __future__ import annotations

from bisect import bisect_left
from decimal import Decimal
from typing import NamedTuple

import genai_prices
from genai_prices.types import TieredPrices

from rlm_kernel.types import Usage


class _Line(NamedTuple):
    """Prices in US dollars, of a call and of each token."""

    call: float
    fresh: float
    read: float
    written: float
    output: float


class PublishedPrices:
    """One model's prices, as the genai-prices package lists them; longer calls may have dearer tokens."""

    def __init__(self, provider: str, model: str) -> None:
        """Raise `LookupError` if the list has no price."""
        self._provider = provider
        self._model = model
        found = genai_prices.calc_price(genai_prices.Usage(input_tokens=1), model, provider_id=provider)
        tiers = [price.tiers for price in vars(found.model_price).values() if isinstance(price, TieredPrices)]
        self._starts = sorted({tier.start for each in tiers for tier in each})
        self._changes = isinstance(found.model.prices, list)
        """Whether they hang on the date or the hour."""
        self._lines = [self._line(start + 1) for start in (0, *self._starts)]

    def cost(self, usage: Usage) -> float:
        """Return what one call cost, in US dollars. Raise `ValueError` for counts that can't be."""
        fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
        if min(fresh, usage.cached_input_tokens, usage.cache_write_tokens, usage.output_tokens) < 0:
            raise ValueError(f"no call can have used {usage}")
        if self._changes:
            return float(self._total(usage))
        line = self._lines[bisect_left(self._starts, usage.input_tokens)]
        return (
            line.call
            + line.fresh * fresh
            + line.read * usage.cached_input_tokens
            + line.written * usage.cache_write_tokens
            + line.output * usage.output_tokens
        )

    def _line(self, size: int) -> _Line:
        """Return the prices of calls with `size` input tokens and somewhat more."""
        base = self._total(Usage(input_tokens=size))
        fresh = self._total(Usage(input_tokens=size + 1)) - base
        prices = (
            base - size * fresh,
            fresh,
            self._total(Usage(input_tokens=size, cached_input_tokens=1)) - base + fresh,
            self._total(Usage(input_tokens=size, cache_write_tokens=1)) - base + fresh,
            self._total(Usage(input_tokens=size, output_tokens=1)) - base,
        )
        return _Line(*map(float, prices))

    def _total(self, usage: Usage) -> Decimal:
        tokens = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cached_input_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
        )
        return genai_prices.calc_price(tokens, self._model, provider_id=self._provider).total_price
