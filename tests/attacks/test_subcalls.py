"""Sub-calls in great numbers and sizes: what they cost the host."""

from __future__ import annotations

import pytest

from rlm_kernel.events import AnyEvent
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.sandbox.spec import Carrier
from tests.attacks.conftest import assert_usable, memory_bound, program, run
from tests.docker.conftest import MIB, OpenSession
from tests.support.fakes import completion
from tests.support.sinks import Events

LINK = program("link")


class Counting:
    """Answers each request with a text of the given length and keeps nothing but their number."""

    name = "fake:counting"

    def __init__(self, size: int) -> None:
        self.count = 0
        self._text = "x" * size

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request."""
        self.count += 1
        return completion(f"{len(request.messages[0].content)}{self._text}")

    async def aclose(self) -> None:
        """Close nothing."""


class Forgetful(Events):
    """Keeps no event, so that what a test measures is the session's."""

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Forget `event`."""


@pytest.fixture
def events() -> Events:
    """What happened is forgotten."""
    return Forgetful()


async def test_many_large_prompts(open_test_session: OpenSession, carrier: Carrier) -> None:
    """2,000 sub-calls of 100 KB each at once take the host no more memory than the stream's windows."""
    model = Counting(10)
    async with memory_bound(150 * MIB), open_test_session(models={None: model}, carrier=carrier) as session:
        code = "p = 'y' * 100_000\nr = llm_query_batched([p] * 2000)\nFINAL([len(r), r[0][:6]])"
        result = await run(session, code)
        assert result.final is not None, result
        assert result.final.value == [2000, "100000"]
        await assert_usable(session)
    assert model.count == 2000


async def test_answers_that_nobody_reads(open_test_session: OpenSession) -> None:
    """A guest that asks and never reads the answers can't pile them up in the host."""
    model = Counting(MIB)
    async with memory_bound(200 * MIB), open_test_session(models={None: model}, cell_timeout=5) as session:
        code = f"""{LINK}
import os, time
pair = socket.socketpair()
own = link()
number = next(int(e[9:]) for e in Path("/proc/self/environ").read_bytes().split(b"\\0") if e.startswith(b"RLM_LINK="))
os.dup2(pair[0].fileno(), number)
own.settimeout(2)
try:
    for i in range(600): own.sendall(call(id=i, prompt="x"))
except OSError: pass
time.sleep(2)
"""
        await run(session, code)
    assert model.count >= 50
