"""What a model's tokens cost, for calls whose size is not known yet."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from rlm_kernel.budget.amounts import UNITS_PER_DOLLAR
from rlm_kernel.types import Usage

_STEPS = (0, 32_001, 100_001, 128_001, 200_001, 256_001, 272_001, 512_001, 524_289, 1_000_001)
"""Input sizes from which price lists charge more for every token of a call."""
_OUTPUT = 1_000


@dataclass(frozen=True, slots=True)
class Prices:
    """A model's prices in units of a budget: `call` for each call, and for calls of each step's size, `input` and
    `output` per token. They are never below the price: an input token counts as one that is written to a cache, and
    a call as if it reached into the next step.
    """

    call: int = 0
    input: tuple[int, ...] = (0,)
    output: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, tariff: Callable[[Usage], float | None]) -> Prices | None:
        """Return the prices that `tariff`, which prices one call in US dollars, comes to; None if it knows none."""
        call = _units(tariff(Usage(calls=1)))
        if call is None:
            return None
        inputs, outputs = [], []
        for step in _STEPS:
            size = max(step, 1_000)
            plain, written = tariff(Usage(calls=1, input_tokens=size)), _written(tariff, size)
            whole = tariff(Usage(calls=1, input_tokens=size, output_tokens=_OUTPUT))
            if plain is None or whole is None:
                return None
            dearest = plain if written is None else max(plain, written)
            inputs.append(max(0, math.ceil(((_units(dearest) or 0) - call) / size)))
            outputs.append(max(0, math.ceil(((_units(whole) or 0) - (_units(plain) or 0)) / _OUTPUT)))
        return cls(call, _with_next(inputs), _with_next(outputs))

    def at(self, input_tokens: int) -> tuple[int, int]:
        """Return what an input token and an output token cost in a call with that many input tokens."""
        step = min(bisect_right(_STEPS, input_tokens), len(self.input)) - 1
        return self.input[step], self.output[step]


def _written(tariff: Callable[[Usage], float | None], size: int) -> float | None:
    return tariff(Usage(calls=1, input_tokens=size, cache_write_tokens=size))


def _units(dollars: float | None) -> int | None:
    return None if dollars is None else round(dollars * UNITS_PER_DOLLAR)


def _with_next(prices: list[int]) -> tuple[int, ...]:
    return tuple(map(max, prices, [*prices[1:], prices[-1]]))
