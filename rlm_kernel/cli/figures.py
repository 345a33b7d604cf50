"""Numbers, times, outcomes and outputs as people read them."""

from __future__ import annotations

from rlm_kernel.text import joined
from rlm_kernel.types import JSON, Usage

OUTCOMES = {
    "ok": "ok",
    "error": "raised",
    "timed_out": "ran out of time",
    "interrupted": "was interrupted",
    "kernel_died": "lost its kernel",
}


def used(usage: Usage) -> list[str]:
    """Return tokens and cost in words; nothing as long as no token was used."""
    if not usage.input_tokens and not usage.output_tokens:
        return []
    return [f"tokens {count(usage.input_tokens)} in, {count(usage.output_tokens)} out", cost(usage.cost_usd)]


def cost(dollars: float | None) -> str:
    """Return a cost in words."""
    if dollars is None:
        return "cost unknown"
    return f"${dollars:.4f}" if 0 < dollars < 0.1 else f"${dollars:.2f}"


def count(number: int) -> str:
    """Return a number as people read it: 950, 12.3k, 4.0M."""
    if number < 1000:
        return str(number)
    return f"{number / 1e3:.1f}k" if number < 1e6 else f"{number / 1e6:.1f}M"


def size(number: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{number} bytes" if number < 1000 else f"{count(number).upper()}B"


def clock_time(seconds: float) -> str:
    """Return seconds as 1:05 or 1:01:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def took(seconds: float) -> str:
    """Return a duration as people read it: `0.45s`, `12s`, `1:05`, `1:01:05`."""
    return f"{seconds:.2g}s" if seconds < 9.95 else f"{seconds:.0f}s" if seconds < 59.5 else clock_time(seconds)


def output_text(output: dict[str, JSON]) -> str:
    """Return the text of one output as nbformat has it: a stream's, a traceback, or a display's plain form."""
    match output:
        case {"output_type": "stream", "text": text}:
            return joined(text)
        case {"output_type": "error", "traceback": [_, *_] as lines}:
            return "\n".join(map(str, lines))
        case {"output_type": "error", "ename": name, "evalue": value}:
            return f"{name}: {value}"
        case {"data": {"text/plain": text}}:
            return joined(text)
        case {"data": {**kinds}}:
            return f"[{', '.join(map(str, kinds))}]"
    return ""
