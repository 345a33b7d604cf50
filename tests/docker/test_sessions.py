"""Sessions on the real engine, over both carriers: cells, contexts, sub-calls, time limits, recovery, clean-up."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import pytest

from rlm_kernel.errors import ContextTooLarge, EngineUnavailable
from rlm_kernel.events import (
    CellFinished,
    CellOutput,
    KernelLost,
    SubcallRefused,
)
from rlm_kernel.kernel import CellResult
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.spec import Carrier
from rlm_kernel.session import Session
from rlm_kernel.types import Usage
from tests.docker.conftest import MIB, OpenSession
from tests.support.sinks import Events


class Echo:
    """Answers with the prompt in capitals; prompts that say so fail."""

    name = "echo:echo"

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request."""
        prompt = request.messages[0].content
        if prompt == "fail":
            raise RuntimeError("as asked")
        return Completion(text=prompt.upper(), finish_reason="stop", usage=Usage(calls=1), served_by="echo")

    async def aclose(self) -> None:
        """Close nothing."""


async def run(session: Session, code: str) -> CellResult:
    """Run one cell."""
    return await session.run_cell(code, turn=1)


def text(result: CellResult) -> str:
    """Return what a cell printed."""
    assert result.status == "ok", result
    return "".join(str(output["text"]) for output in result.outputs if output["output_type"] == "stream")


@pytest.mark.parametrize("size", [5, 40 * MIB])
async def test_a_text_is_a_str(open_test_session: OpenSession, carrier: Carrier, size: int, tmp_path: Path) -> None:
    """A file is a `str` with every character as it was, over both carriers, at ten million tokens too."""
    file = tmp_path / "file.txt"
    file.write_bytes(b"line\r\n\xc3\xa9\xf0\x9f\x98\x80" + b"x" * size)
    async with open_test_session(file, carrier=carrier) as session:
        code = "import hashlib; print(type(context).__name__, len(context), context[:8].encode(), hash(context) != 0)"
        assert text(await run(session, code)) == (f"str {size + 8} b'line\\r\\n\\xc3\\xa9\\xf0\\x9f\\x98\\x80' True\n")
        assert session.ready.context_length == size + 8


async def test_the_guest_can_not_change_the_users_file(open_test_session: OpenSession, tmp_path: Path) -> None:
    """The context in the container is not the user's own file and can't be written or locked through it."""
    file = tmp_path / "file.txt"
    file.write_text("mine")
    async with open_test_session(file) as session:
        result = await run(session, "open('/run/rlm/context', 'r+')")
        assert result.ename in ("PermissionError", "OSError")
        with file.open("r+") as handle:
            await run(session, "import fcntl; f = open('/run/rlm/context'); fcntl.flock(f, fcntl.LOCK_EX)")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert file.read_text() == "mine"


async def test_a_left_over_thread_gets_nothing(
    open_test_session: OpenSession, events: Events, carrier: Carrier
) -> None:
    """A sub-call that arrives while no cell runs is refused and recorded; its late output belongs to its cell."""
    async with open_test_session(carrier=carrier, models={None: Echo()}) as session:
        code = """
import threading, time
def later():
    time.sleep(0.5)
    try:
        llm_query("late")
    except Exception as error:
        print("refused:", error)
thread = threading.Thread(target=later)
thread.start()
"""
        assert (await run(session, code)).status == "ok"
        async with asyncio.timeout(10):
            while not events.of(CellOutput):
                await asyncio.sleep(0.05)
        assert text(await run(session, "thread.join(); print('next')")) == "next\n"
    assert [event.prompt for event in events.of(SubcallRefused)] == ["late"]
    late = events.of(CellOutput)[0]
    assert (late.cell, late.late) == (1, True)
    assert "refused: " in str(late.output["text"])


@pytest.mark.parametrize(
    ("code", "ename"),
    [
        ("import os; os._exit(3)", "KernelDied"),
        ("import os; os.kill(os.getpid(), 9)", "KernelDied"),
        ("import ctypes; ctypes.string_at(0)", "KernelDied"),
        ("x = bytearray(2**30 * 2)", None),
        ("x = [bytearray(2**20) for _ in range(4000)]", "OutOfMemory"),
    ],
)
async def test_a_kernel_that_dies(
    open_test_session: OpenSession, code: str, ename: str | None, events: Events, carrier: Carrier
) -> None:
    """A kernel that dies in a cell is told apart, the lost names are said, and the next cell has `context` again."""
    async with open_test_session(carrier=carrier) as session:
        await run(session, "mine = 1")
        result = await run(session, code)
        if ename is not None:
            assert (result.status, result.ename, result.lost) == ("kernel_died", ename, ("mine",))
            assert events.of(KernelLost)[0].lost == ["mine"]
            assert (await run(session, "mine")).ename == "NameError"
        assert text(await run(session, "print(context)")) == "context\n"


async def test_a_flood_of_output_is_cut(open_test_session: OpenSession, carrier: Carrier) -> None:
    """Output past the limits is cut, the cut is said, and the cell ends as it should."""
    async with open_test_session(carrier=carrier, memory=1024 * MIB) as session:
        result = await run(session, "print('x' * 500_000_000)")
        assert result.status == "ok"
        kept = sum(len(str(output)) for output in result.outputs)
        assert kept < 17 * MIB
        assert "cut" in str(result.outputs)[-500:] or result.cut > 0
        result = await run(session, "for i in range(20_000): print(i, flush=True)")
        assert result.status == "ok"
        assert text(await run(session, "print('fine')")) == "fine\n"


async def test_a_context_that_does_not_fit_is_refused(open_test_session: OpenSession) -> None:
    """A context whose text is too large for the memory is refused before anything starts, with the way out."""
    with pytest.raises(ContextTooLarge, match="--memory"):
        async with open_test_session("\N{GRINNING FACE}" + "x" * (80 * MIB), memory=256 * MIB):
            pass


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6])
async def test_a_cancel_at_any_point_leaves_nothing(
    open_test_session: OpenSession, delay: float, carrier: Carrier
) -> None:
    """Cancelled at any moment of its start or in a cell, a session leaves no container, folder, task or descriptor."""

    async def work() -> None:
        async with open_test_session(carrier=carrier) as session:
            await run(session, "while True: pass")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work(), delay)


async def test_no_engine_is_said(open_test_session: OpenSession, tmp_path: Path) -> None:
    """Where no engine answers, the error says where it was looked for and what to do."""
    runtime = DockerRuntime(f"unix://{tmp_path}/nothing")
    with pytest.raises(EngineUnavailable, match="DOCKER_HOST"):
        async with open_test_session(engine=runtime):
            pass
    await runtime.aclose()


async def test_sessions_run_side_by_side(open_test_session: OpenSession, events: Events) -> None:
    """Several sessions at once don't see each other's variables, files or sub-calls."""

    async def one(number: int) -> str:
        async with open_test_session(f"context {number}", models={None: Echo()}) as session:
            await run(session, f"mine = {number}; open('/tmp/mine', 'w').write('{number}')")
            return text(await run(session, "print(context, mine, open('/tmp/mine').read(), llm_query(str(mine)))"))

    results = await asyncio.gather(*(one(number) for number in range(4)))
    assert results == [f"context {n} {n} {n} {n}\n" for n in range(4)]
    assert all(event.status == "ok" for event in events.of(CellFinished))
