"""What a run may use, over the whole tree of its calls: reserved before each call, settled after it."""

from rlm_kernel.budget.amounts import Amounts
from rlm_kernel.budget.budget import Budget
from rlm_kernel.budget.call import DEFAULT_REPLY_TOKENS, Call, Estimate
from rlm_kernel.budget.limits import Limits, Warnings
from rlm_kernel.budget.prices import Prices
from rlm_kernel.budget.reservation import Reservation
from rlm_kernel.budget.tokens import guess_message, guess_tokens

__all__ = [
    "DEFAULT_REPLY_TOKENS",
    "Amounts",
    "Budget",
    "Call",
    "Estimate",
    "Limits",
    "Prices",
    "Reservation",
    "Warnings",
    "guess_message",
    "guess_tokens",
]
