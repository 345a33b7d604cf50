"""What the real small model replies, all from one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest
import pytest_asyncio

from rlm_kernel.models.local import LocalModel
from rlm_kernel.models.model import ModelRequest, TextDelta
from rlm_kernel.types import Message
from tests.unit.models.test_local import servers

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _capital(country: str) -> ModelRequest:
    question = f"What is the capital of {country}? Answer with the name of the city only."
    return ModelRequest(messages=(Message("user", question),), max_output_tokens=10)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[LocalModel]:
    """The loaded model, one for all tests that leave it whole."""
    async with aclosing(LocalModel("smollm2")) as model:
        yield model


async def test_it_answers_a_plain_question(model: LocalModel) -> None:
    """Facts that a small model knows come out right, with the tokens counted."""
    for country, city in {"France": "Paris", "Egypt": "Cairo", "Norway": "Oslo"}.items():
        completion = await model.complete(_capital(country))
        assert city in completion.text
        assert completion.served_by == "local:smollm2"
        assert completion.usage.input_tokens > 10
        assert 0 < completion.usage.output_tokens <= 10


async def test_replies_do_not_depend_on_company(model: LocalModel) -> None:
    """The same request has the same reply, alone and among others, and 9 at once are all answered in one process."""
    countries = ["Italy", "Spain", "Japan"]
    alone = [(await model.complete(_capital(country))).text for country in countries]
    together = await asyncio.gather(*(model.complete(_capital(country)) for country in countries * 3))
    assert [completion.text for completion in together] == alone * 3
    assert len(servers()) == 1


async def test_only_the_key_opens_it(model: LocalModel) -> None:
    """Other users of the machine can't use the server: without the key of this process it refuses."""
    await model.start()
    (server,) = servers()
    (port,) = {connection.laddr.port for connection in server.net_connections() if connection.status == "LISTEN"}
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    status = await reader.readline()
    writer.close()
    assert b"401" in status


async def test_a_streamed_reply_is_the_same_and_comes_in_pieces(model: LocalModel) -> None:
    """Text, end and counts are those of the whole reply, read from llama.cpp's own stream."""
    request = replace(_capital("Norway"), max_output_tokens=30)
    pieces: list[TextDelta] = []
    whole = await model.complete(request)
    streamed = await model.complete(replace(request, on_text=pieces.append))
    assert (streamed.text, streamed.finish_reason) == (whole.text, whole.finish_reason)
    assert (streamed.usage.input_tokens, streamed.usage.output_tokens) == (
        whole.usage.input_tokens,
        whole.usage.output_tokens,
    )
    assert "".join(piece.text for piece in pieces) == streamed.text
    assert len(pieces) > 1
