"""What can be named to be kept out of recordings: the shapes of keys and tokens, and regular expressions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlm_kernel.recording.redaction import REDACTED, Redact

_KEYS = {
    "sk-": r"(?=[a-zA-Z_-]*\d)[\w-]{20,}",  # OpenAI, Anthropic, OpenRouter, DeepSeek and others
    "sk_live_": r"\w{16,}",  # Stripe
    "sk_test_": r"\w{16,}",
    "rk_live_": r"\w{16,}",
    "AKIA": r"[A-Z0-9]{16}(?!\w)",  # AWS
    "ASIA": r"[A-Z0-9]{16}(?!\w)",
    "AIza": r"[\w-]{35}",  # Google
    "ya29.": r"[\w-]{20,}",
    "gsk_": r"\w{20,}",  # Groq
    "xai-": r"\w{20,}",
    "hf_": r"(?=[a-zA-Z]*\d)[a-zA-Z0-9]{30,}",  # Hugging Face
    "r8_": r"\w{30,}",  # Replicate
    "ghp_": r"\w{30,}",  # GitHub
    "gho_": r"\w{30,}",
    "ghu_": r"\w{30,}",
    "ghs_": r"\w{30,}",
    "ghr_": r"\w{30,}",
    "github_pat_": r"\w{30,}",
    "glpat-": r"[\w-]{20,}",  # GitLab
    "xoxb-": r"[\w-]{20,}",  # Slack
    "xoxp-": r"[\w-]{20,}",
    "xoxa-": r"[\w-]{20,}",
    "xapp-": r"[\w-]{20,}",
    "npm_": r"\w{36}",
    "pypi-": r"[\w-]{50,}",
    "SG.": r"[\w-]{16,}\.[\w-]{16,}",  # SendGrid
    "eyJ": r"[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]*",  # JSON web tokens
    "-----BEGIN ": r"(?:[A-Z]{1,20} ){0,3}PRIVATE KEY-----(?:[^-]++|-(?!----))*+(?:-----END [A-Z ]{0,40}-----)?",
}
"""What follows on how each begins. No shape begins within a word, so that no text is read more than a few times."""

NAMES = ("keys",)


def _shaped(begin: str, rest: str) -> re.Pattern[str]:
    if begin.startswith("-"):
        return re.compile(begin + rest)
    literal = re.escape(begin)  # the lookbehinds come after it, as a pattern that begins with a literal is found faster
    return re.compile(rf"{literal}(?:(?<![\w-]{literal})|(?<=\\[nrt]{literal})){rest}", re.ASCII)


_SHAPES = {begin: _shaped(begin, rest) for begin, rest in _KEYS.items()}


def keys(text: str) -> str:
    """Return `text` without the usual API keys, tokens and private keys, in linear time whatever it is."""
    for begin, shape in _SHAPES.items():
        if begin in text:
            text = shape.sub(REDACTED, text)
    return text


def hooks_of(named: str) -> tuple[Redact, ...]:
    """Return the hooks that a setting names: `keys`, `/a regular expression/`, or `keys,/one/`.

    Raise `ValueError` for anything else.
    """
    return tuple(_hooks_of(named))


def _hooks_of(named: str) -> Iterator[Redact]:
    names, slash, pattern = named.strip().partition("/")
    for name in filter(None, map(str.strip, names.split(","))):
        if name not in NAMES:
            raise ValueError(
                f"{name[:200]!r} is neither {', '.join(NAMES)} nor a regular expression such as /ACME-\\d+/"
            )
        yield keys
    if not slash:
        if not names.strip(" ,"):
            raise ValueError("it names nothing")
        return
    if not pattern.endswith("/") or (names.strip() and not names.strip().endswith(",")):
        raise ValueError(f"{named[:200]!r} is no list of names and, at its end, one /regular expression/")
    yield _pattern(pattern[:-1])


def _pattern(pattern: str) -> Redact:
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"/{pattern[:200]}/ is no regular expression: {error}") from None
    if compiled.search("") is not None:
        raise ValueError(f"/{pattern[:200]}/ matches nothing at all, and so everywhere")

    def matched(text: str) -> str:
        return compiled.sub(REDACTED, text)

    return matched
