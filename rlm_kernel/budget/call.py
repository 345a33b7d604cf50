"""A call that is to be made, and what it may use."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_kernel.budget.prices import Prices

DEFAULT_REPLY_TOKENS = 8192
"""What a reply may have where tokens or cost are limited and the reply's own limit is not set."""
LEAST_REPLY_TOKENS = 256
"""A call is not made with room for less, if it wants more."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of `model` with `input_tokens` as `guess` came to, and at most `output_tokens`.

    `prices` None: its price is not known, and its cost not counted. `closing`: it is the request for the best answer.
    """

    model: str
    guess: int
    input_tokens: int
    output_tokens: int
    prices: Prices | None = None
    is_sub: bool = True
    closing: bool = False

    @property
    def least_output(self) -> int:
        """The maximum output below which it is not worth making."""
        return min(self.output_tokens, LEAST_REPLY_TOKENS)

    def cost(self, output_tokens: int) -> int:
        """Return what it costs at most with that much output, in units of 1e-12 dollars."""
        if self.prices is None:
            return 0
        per_input, per_output = self.prices.at(self.input_tokens)
        return self.prices.call + per_input * self.input_tokens + per_output * output_tokens

    def units(self, output_tokens: int) -> tuple[int, ...]:
        """Return what it takes of each dimension with that much output."""
        used = self.input_tokens
        return (0, used, output_tokens, used + output_tokens, self.cost(output_tokens), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a call would use at most; `cost_usd` is None if the price is unknown. `fits`: it could be made now."""

    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    fits: bool
