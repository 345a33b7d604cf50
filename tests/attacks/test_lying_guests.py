"""Images whose first process is not the relay: whatever they say, or don't, the host ends with a typed error."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from collections.abc import Callable, Iterator

import docker
import pytest

from rlm_kernel.errors import EngineTimeout, GuestProtocolError, KernelFailed, SandboxError, SandboxLost, SandboxRefused
from rlm_kernel.guest.wire import FLAG_PING, FLAG_PONG, HEADER, Channel
from rlm_kernel.sandbox.spec import Carrier
from tests.attacks.conftest import memory_bound, program, run
from tests.docker.conftest import MIB, OpenSession
from tests.support.guest import guest_and_endpoint

LiarImage = Callable[[str], str]

EXPECTED: dict[str, type[SandboxError] | tuple[type[SandboxError], ...]] = {
    "nothing": EngineTimeout,
    "end": (SandboxLost, EngineTimeout),
    "http": GuestProtocolError,
    "no json": GuestProtocolError,
    "nested": GuestProtocolError,
    "other type": GuestProtocolError,
    "long frame": GuestProtocolError,
    "long message": GuestProtocolError,
    "flood": GuestProtocolError,
    "tiny flood": GuestProtocolError,
    "credits": GuestProtocolError,
    "pongs": GuestProtocolError,
    "long ping": GuestProtocolError,
    "protocol": GuestProtocolError,
    "protocol type": GuestProtocolError,
    "root": SandboxRefused,
    "no facts": GuestProtocolError,
    "list of facts": GuestProtocolError,
    "capabilities": (SandboxRefused, GuestProtocolError),
    "negative": (SandboxRefused, GuestProtocolError),
    "nan": GuestProtocolError,
    "minus": (SandboxRefused, GuestProtocolError),
    "escapes": SandboxRefused,
    "huge generation": GuestProtocolError,
    "huge length": GuestProtocolError,
    "negative length": GuestProtocolError,
    "long type": GuestProtocolError,
    "bind failed": (KernelFailed, GuestProtocolError),
    "died": (KernelFailed, GuestProtocolError),
    "context": GuestProtocolError,
    "sub-call": GuestProtocolError,
}


@pytest.fixture(scope="module")
def liar(engine: docker.APIClient, image: str) -> Iterator[LiarImage]:
    """A function that makes an image whose first process tells one lie."""
    made: list[str] = []

    def make(lie: str) -> str:
        name = f"rlm-kernel-attack:{re.sub('[^a-z]', '-', lie)}"
        entrypoint = json.dumps(["python3", "-S", "-P", "-c", program("liar"), lie])
        replies = engine.build(
            fileobj=io.BytesIO(f"FROM {image}\nENTRYPOINT {entrypoint}\n".encode()), tag=name, rm=True
        )
        assert b"Successfully built" in b"".join(replies)
        made.append(name)
        return name

    yield make
    for name in made:
        engine.remove_image(name, force=True)


@pytest.mark.parametrize("lie", EXPECTED)
async def test_a_lie(open_test_session: OpenSession, liar: LiarImage, lie: str) -> None:
    """Each lie, before the hello, in it or after it, is a typed error at once, and the host stays small."""
    carrier: Carrier = "socket" if len(lie) % 2 else "attach"
    seconds = 3 if lie in ("nothing", "end") else 15
    async with memory_bound(100 * MIB):
        started = time.monotonic()
        with pytest.raises(EXPECTED[lie]) as error:
            async with open_test_session(image=liar(lie), carrier=carrier, start_timeout=seconds) as session:
                await run(session, "1")
        assert time.monotonic() - started < 20
        assert len(str(error.value)) < 10_000


@pytest.mark.parametrize("sent", ["messages", "pings"])
async def test_answers_that_nobody_reads(sent: str) -> None:
    """From a guest that sends for ever and reads nothing the host stops reading, as its answers would fill it."""
    async with guest_and_endpoint() as (guest, endpoint):
        endpoint.handle(Channel.CONTROL, endpoint.release)
        flood = (
            frame(b"{}" + b" " * 40) * 1000 if sent == "messages" else HEADER.pack(0, Channel.CONTROL, FLAG_PING) * 4000
        )
        with pytest.raises(TimeoutError):  # noqa: PT012 - any of the writes may be the one that waits
            for _ in range(300):
                async with asyncio.timeout(1):
                    await guest.raw(flood)


@pytest.mark.parametrize("pings", [0, 2])
async def test_pongs_unasked(pings: int) -> None:
    """More pongs than there were pings end the session; they are no way to look alive later."""
    async with guest_and_endpoint() as (guest, endpoint):
        for _ in range(pings):
            endpoint.ping()
        await guest.raw(HEADER.pack(0, Channel.CONTROL, FLAG_PONG) * (pings + 1))
        assert isinstance(await asyncio.wait_for(endpoint.lost, 5), GuestProtocolError)
        assert await guest.ended()


async def test_a_flood_of_pings_has_no_effect(open_test_session: OpenSession, liar: LiarImage) -> None:
    """A guest that pings without end, and reads, is answered; its start ends at the deadline, the host small."""
    async with memory_bound(100 * MIB):
        with pytest.raises(EngineTimeout):
            async with open_test_session(image=liar("pings"), start_timeout=3):
                pass


def frame(payload: bytes) -> bytes:
    """Return a control frame."""
    return HEADER.pack(len(payload), Channel.CONTROL, 0) + payload
