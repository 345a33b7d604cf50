"""What the provider clients share."""

from __future__ import annotations

import pytest

from rlm_kernel.models.provider import Provider


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("x", "the example x-key is wrong"),
        ("example", "the example x-key is wrong"),
        ("the example", "*** x-key is wrong"),
    ],
)
def test_only_what_can_be_a_secret_is_masked(key: str, said: str) -> None:
    """A key of eight characters or more is taken out of a server's message; a placeholder leaves it readable."""
    provider = Provider(name="openai:m", model="m", base_url="http://x", api_key=key)
    assert said in str(provider.refusal(401, {}, {"message": "the example x-key is wrong"}))
