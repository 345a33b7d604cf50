"""Published prices, held against the price list's own sums."""

from __future__ import annotations

import genai_prices
import pytest
from genai_prices import data_snapshot
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from rlm_kernel.models.pricing import PublishedPrices
from rlm_kernel.types import Usage

PROVIDERS = ("openai", "anthropic", "google", "openrouter")
MODELS = [
    (provider.id, model.id)
    for provider in data_snapshot.get_snapshot().providers
    if provider.id in PROVIDERS
    for model in provider.models
]
STEPS = [32_000, 128_000, 200_000, 272_000]
SIZES = st.one_of(st.integers(0, 2_000), st.sampled_from(STEPS), st.integers(0, 2_000_000))


@settings(max_examples=300)
@given(st.sampled_from(MODELS), SIZES, st.integers(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.integers(0, 100_000))
def test_the_cost_is_that_of_the_list(
    model: tuple[str, str], size: int, more: int, read: float, written: float, output: int
) -> None:
    """Of every listed model, for calls of all sizes, at the steps too, with reads from the cache and writes to it."""
    provider, name = model
    tokens = size + more
    cached = int(tokens * read)
    kept = int((tokens - cached) * written)
    usage = Usage(input_tokens=tokens, cached_input_tokens=cached, cache_write_tokens=kept, output_tokens=output)
    listed = genai_prices.Usage(
        input_tokens=tokens, cache_read_tokens=cached, cache_write_tokens=kept, output_tokens=output
    )
    try:
        expected = float(genai_prices.calc_price(listed, name, provider_id=provider).total_price)
    except LookupError:  # the list's own names are not all found by themselves
        reject()
    assert PublishedPrices(provider, name).cost(usage) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_what_has_no_price_is_said() -> None:
    """A model that is not listed raises, and so do counts that can't be."""
    with pytest.raises(LookupError):
        PublishedPrices("openai", "no-such-model")
    with pytest.raises(ValueError, match="used"):
        PublishedPrices("openai", "gpt-5").cost(Usage(input_tokens=1, cached_input_tokens=2))
