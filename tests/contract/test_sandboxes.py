"""What every sandbox promises, on each engine, OCI runtime and carrier; where one falls short, it is said why."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from rlm_kernel.errors import SandboxRefused
from rlm_kernel.events import CellOutput, KernelLost, SandboxStarted, SubcallReplied
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.spec import Carrier, SandboxSpec
from tests.contract.conftest import Place
from tests.docker.conftest import MIB, OpenSession
from tests.docker.test_sessions import Echo, run, text
from tests.support.sinks import Events

pytestmark = pytest.mark.usefixtures("nothing_left")
THREADS = """
import threading
stop, started = threading.Event(), []
try:
    while len(started) < 1000:
        thread = threading.Thread(target=stop.wait)
        thread.start()
        started.append(thread)
except RuntimeError:
    pass
stop.set()
for thread in started:
    thread.join()
print(len(started))
"""
PROBE = Path(__file__).with_name("probe.py").read_text()
DENIED = {"OSError", "PermissionError", "FileNotFoundError"}

KNOWN: dict[tuple[str, str], str] = {
    ("docker-runsc", "test_a_cell_that_takes_too_much_memory"): (
        "gVisor is one process to the host's kernel, which kills all of it"
    ),
}
"""Promises that are not kept, and why. One that is kept after all fails its test, so that it is taken off here."""

KNOWN_INSIDE: dict[tuple[str, str], str] = {
    ("docker-runsc", "no user namespace"): "what one gives is power over gVisor's kernel, which is the session's own",
    ("docker-runsc", "the relay can't be looked into"): "gVisor lets a user read /proc of all its processes",
    ("podman-runc", "no user namespace"): "Podman's seccomp profile lets everybody make one, Docker's does not",
}
"""The same for what the probe finds, by claim."""


@pytest.fixture(autouse=True)
def known_failure(request: pytest.FixtureRequest, place: Place) -> None:
    """Expect the known failures."""
    reason = KNOWN.get((place.kind, request.function.__name__))
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


def inside(found: dict[str, Any], uid: int, carrier: Carrier) -> dict[str, bool]:
    """Return whether each claim on what code in a cell may do holds, for what the probe has found."""
    private = 4 * MIB + (176 * MIB if carrier == "attach" else 0)
    return {
        "a user of its own": found["ids"] == [[uid] * 3, [uid] * 3, [uid]] and 40_000 <= uid <= 49_999,
        "no capability": set(found["caps"]) == {"0000000000000000"},
        "a seccomp filter": found["seccomp"] == "2",
        "a read-only root": set(found["write_root"]) <= DENIED,
        "no way to be root": {found["setuid"], found["chroot"]} == {"PermissionError"} and not found["mount"],
        "no device": found["device"] in DENIED,
        "no user namespace": not found["user_namespace"],
        "no network": found["connect"] == "OSError" and found["lookup"] == "gaierror" and found["interfaces"] == ["lo"],
        "nothing is run from /tmp": found["exec_tmp"] == "PermissionError",
        "files are limited": found["nofile"] == [512, 512] and found["files"] < 512 and found["core"] == [0, 0],
        "room is limited": (found["tmp"], found["shm"]) == (32 * MIB, 16 * MIB) and found["private"] <= private,
        "the relay can't be looked into": [*found["relay"], found["relay_fd"]] == ["PermissionError"] * 4,
        "no way to the engine": not found["engine"] and "stream" not in found["shared"],
    }


async def test_a_probe_inside_finds_every_limit(
    open_test_session: OpenSession, place: Place, carrier: Carrier, events: Events
) -> None:
    """Code in a cell has no privilege, no network, nowhere to write but sized tmpfs, and the limits asked for."""
    async with open_test_session(carrier=carrier) as session:
        found = json.loads(text(await run(session, PROBE)))
    started = events.of(SandboxStarted)[0]
    assert started.carrier == carrier
    assert started.oci_runtime == place.kind.partition("-")[2]
    failed = {claim for claim, holds in inside(found, started.uid, carrier).items() if not holds}
    assert failed == {claim for kind, claim in KNOWN_INSIDE if kind == place.kind}, found


async def test_state_lives_on_between_cells(open_test_session: OpenSession, carrier: Carrier) -> None:
    """Variables, imports and top-level await work as in a notebook; results and displays are outputs."""
    async with open_test_session(carrier=carrier) as session:
        await run(session, "import math, asyncio\nx = [1, 2]")
        assert text(await run(session, "x.append(await asyncio.sleep(0, 3)); print(x, math.pi)")) == (
            "[1, 2, 3] 3.141592653589793\n"
        )
        result = await run(session, "from IPython.display import HTML\ndisplay(HTML('<b>b</b>'))\n{'a': 1}")
        assert [output["output_type"] for output in result.outputs] == ["display_data", "execute_result"]
        assert result.execution_count == 3


async def test_an_error_is_a_value(open_test_session: OpenSession, carrier: Carrier) -> None:
    """A failing cell gives its exception with a clean traceback, and the session goes on."""
    async with open_test_session(carrier=carrier) as session:
        result = await run(session, "def f():\n    raise ValueError('no')\nprint('before')\nf()")
        assert (result.status, result.ename, result.evalue) == ("error", "ValueError", "no")
        assert "\x1b" not in str(result.outputs)
        assert (await run(session, "def (")).ename == "SyntaxError"
        assert text(await run(session, "print('after')")) == "after\n"


async def test_a_folder_is_a_dict(open_test_session: OpenSession, carrier: Carrier, tmp_path: Path) -> None:
    """A folder is a dict from path to text, sorted by path."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.txt").write_text("bé")
    (folder / "a.txt").write_text("")
    (folder / "sub" / "c.txt").write_text("c")
    async with open_test_session(folder, carrier=carrier) as session:
        assert text(await run(session, "print(context)")) == "{'a.txt': '', 'b.txt': 'bé', 'sub/c.txt': 'c'}\n"


async def test_a_json_value_is_itself(open_test_session: OpenSession, carrier: Carrier) -> None:
    """A JSON value arrives as it was given."""
    async with open_test_session([{"a": 1.5, "b": None}, "é"], carrier=carrier) as session:
        assert text(await run(session, "print(context)")) == "[{'a': 1.5, 'b': None}, 'é']\n"


async def test_sub_calls_from_everywhere(open_test_session: OpenSession, carrier: Carrier, events: Events) -> None:
    """Sub-calls work from the cell, from many threads, as a batch in order, and as awaitables."""
    async with open_test_session(carrier=carrier, models={None: Echo()}) as session:
        code = """
from concurrent.futures import ThreadPoolExecutor
import asyncio
print(llm_query("a"))
with ThreadPoolExecutor(20) as pool:
    print("".join(pool.map(llm_query, [f"t{i}," for i in range(40)])))
print(llm_query_batched([f"b{i}" for i in range(5)]))
print(await allm_query("c"), await allm_query_batched(["d", "e"]))
print(await asyncio.gather(*(allm_query(x) for x in "xyz")))
"""
        assert text(await run(session, code)).splitlines() == [
            "A",
            "".join(f"T{i}," for i in range(40)),
            "['B0', 'B1', 'B2', 'B3', 'B4']",
            "C ['D', 'E']",
            "['X', 'Y', 'Z']",
        ]
    assert len(events.of(SubcallReplied)) == 52


async def test_a_failed_sub_call_is_an_exception(open_test_session: OpenSession, carrier: Carrier) -> None:
    """A failed item raises, or is returned as an exception object if asked for, never as text."""
    async with open_test_session(carrier=carrier, models={None: Echo()}) as session:
        assert (await run(session, "llm_query('fail')")).ename == "LLMQueryError"
        assert (await run(session, "llm_query_batched(['a', 'fail'])")).ename == "LLMQueryError"
        code = (
            "r = llm_query_batched(['a', 'fail', 'b'], return_exceptions=True); print(r[0], type(r[1]).__name__, r[2])"
        )
        assert text(await run(session, code)) == "A LLMQueryError B\n"
        assert (await run(session, "llm_query('a', model='openai:gpt-5')")).ename == "LLMQueryError"


async def test_an_error_inside_leaves_nothing(open_test_session: OpenSession, carrier: Carrier) -> None:
    """An exception in the block ends the session too."""

    async def work() -> None:
        async with open_test_session(carrier=carrier) as session:
            await run(session, "x = 1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()


async def test_a_file_is_a_str(open_test_session: OpenSession, carrier: Carrier, tmp_path: Path) -> None:
    """A file is a `str` with every character as it was."""
    file = tmp_path / "file.txt"
    file.write_bytes(b"line\r\n\xc3\xa9\xf0\x9f\x98\x80" + b"x" * 5 * MIB)
    async with open_test_session(file, carrier=carrier) as session:
        assert text(await run(session, "print(len(context), context[:8].encode(), {*context[8:]})")) == (
            f"{5 * MIB + 8} b'line\\r\\n\\xc3\\xa9\\xf0\\x9f\\x98\\x80' {{'x'}}\n"
        )


async def test_a_cell_can_be_stopped(open_test_session: OpenSession, carrier: Carrier, events: Events) -> None:
    """`interrupt` and the time limit stop the running cell and leave its variables."""
    async with open_test_session(carrier=carrier, cell_timeout=2) as session:
        await run(session, "kept = 1")
        cell = asyncio.ensure_future(run(session, "print('on', flush=True)\nwhile True: pass"))
        async with asyncio.timeout(10):
            while not events.of(CellOutput):
                await asyncio.sleep(0.05)
        session.interrupt()
        assert (await asyncio.wait_for(cell, 10)).status == "interrupted"
        assert (await run(session, "import time; time.sleep(60)")).status == "timed_out"
        assert text(await run(session, "print(kept, context)")) == "1 context\n"


async def test_a_kernel_that_dies(open_test_session: OpenSession, carrier: Carrier, events: Events) -> None:
    """A kernel that dies in a cell is told, the lost names are said, and the next cell has `context` again."""
    async with open_test_session(carrier=carrier) as session:
        await run(session, "mine = 1")
        result = await run(session, "import os; os.kill(os.getpid(), 9)")
        assert (result.status, result.ename, result.lost) == ("kernel_died", "KernelDied", ("mine",))
        assert events.of(KernelLost)[0].lost == ["mine"]
        assert text(await run(session, "print(context, 'mine' in globals())")) == "context False\n"


async def test_a_cell_that_takes_too_much_memory(open_test_session: OpenSession, carrier: Carrier) -> None:
    """A kernel that is killed for want of memory is told apart, and the session goes on."""
    async with open_test_session(carrier=carrier, memory=256 * MIB) as session:
        assert (await run(session, "x = [bytearray(2**20) for _ in range(4000)]")).ename == "OutOfMemory"
        assert text(await run(session, "print(context)")) == "context\n"


async def test_threads_are_limited(open_test_session: OpenSession, place: Place, carrier: Carrier) -> None:
    """A cell gets no more threads than there are, and the session goes on; gVisor may end when it wants one itself."""
    async with open_test_session(carrier=carrier) as session:
        result = await run(session, THREADS)
        if place.kind != "docker-runsc" or result.ename != "SandboxLost":
            assert 0 < int(text(result)) < 128
        assert text(await run(session, "print(context)")) == "context\n"


async def test_memory_never_exceeds_its_limit(open_test_session: OpenSession, carrier: Carrier) -> None:
    """A cell gets no more memory than there is, its failure is typed, and the session goes on, anew if need be."""
    async with open_test_session(carrier=carrier, memory=256 * MIB) as session:
        result = await run(session, "x = [bytearray(2**20) for _ in range(4000)]")
        assert result.ename in ("OutOfMemory", "SandboxLost")
        assert text(await run(session, "print(context)")) == "context\n"


async def test_a_flood_of_output_is_cut(open_test_session: OpenSession, carrier: Carrier) -> None:
    """Output past the limits is cut and the cell ends as it should."""
    async with open_test_session(carrier=carrier) as session:
        result = await run(session, "print('x' * 50_000_000)")
        assert result.status == "ok"
        assert sum(len(str(output)) for output in result.outputs) < 17 * MIB
        assert text(await run(session, "print('fine')")) == "fine\n"


async def test_a_killed_container_is_a_lost_sandbox(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events, carrier: Carrier
) -> None:
    """When somebody kills the container in the middle of a cell, its result says so, and the session goes on anew."""
    async with open_test_session(carrier=carrier) as session:
        cell = asyncio.ensure_future(run(session, "print('on', flush=True)\nimport time; time.sleep(60)"))
        async with asyncio.timeout(10):
            while not events.of(CellOutput):
                await asyncio.sleep(0.05)
        await asyncio.to_thread(engine.kill, events.of(SandboxStarted)[0].container)
        assert (await asyncio.wait_for(cell, 20)).ename == "SandboxLost"
        assert text(await run(session, "print(context)")) == "context\n"


async def test_a_container_ends_with_its_stream(
    runtime: DockerRuntime, sandbox_spec: SandboxSpec, engine: docker.APIClient, carrier: Carrier
) -> None:
    """A guest whose stream ends goes by itself, and the engine removes it, although nobody asks for that."""
    sandbox_spec.folder.mkdir(mode=0o755)
    async with runtime.open(replace(sandbox_spec, carrier=carrier)) as sandbox:
        sandbox.endpoint.close()
        assert await asyncio.to_thread(gone, engine, sandbox.container)
    sandbox_spec.folder.rmdir()


def gone(engine: docker.APIClient, container: str) -> bool:
    """Wait until the engine no longer has the container."""
    try:
        engine.wait(container, timeout=20, condition="removed")
    except docker.errors.NotFound:
        return True
    for _ in range(100):
        try:
            engine.inspect_container(container)
        except docker.errors.NotFound:
            return True
        time.sleep(0.1)
    return False


async def test_a_cancel_leaves_nothing(open_test_session: OpenSession, carrier: Carrier) -> None:
    """Cancelled in its start, a session leaves no container, folder, task or descriptor."""

    async def work() -> None:
        async with open_test_session(carrier=carrier) as session:
            await run(session, "while True: pass")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work(), 0.2)


async def test_sessions_side_by_side(open_test_session: OpenSession, events: Events, carrier: Carrier) -> None:
    """Two sessions at once have users of their own and don't see each other's files."""

    async def one(number: int) -> str:
        async with open_test_session(f"context {number}", models={None: Echo()}, carrier=carrier) as session:
            await run(session, f"mine = {number}; open('/tmp/mine', 'w').write('{number}')")
            return text(await run(session, "print(context, mine, open('/tmp/mine').read(), llm_query(str(mine)))"))

    assert list(await asyncio.gather(one(0), one(1))) == ["context 0 0 0 0\n", "context 1 1 1 1\n"]
    assert len({event.uid for event in events.of(SandboxStarted)}) == 2


async def test_a_runtime_that_is_not_there_is_refused(place: Place, sandbox_spec: SandboxSpec) -> None:
    """An OCI runtime that the engine lacks, or passes over, is not replaced by another one."""
    for name in ("nonesuch", "runsc" if place.kind == "podman-runc" else "nonesuch too"):
        runtime = DockerRuntime(place.address, oci_runtime=name)
        try:
            with pytest.raises(SandboxRefused, match=f"OCI runtime '{name}'"):
                async with runtime.open(replace(sandbox_spec, carrier="attach")):
                    pass
        finally:
            await runtime.aclose()
