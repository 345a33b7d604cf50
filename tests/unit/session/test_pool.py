"""The pool of slots, on a runtime that starts guests without containers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from rlm_kernel.errors import EngineUnavailable, KernelFailed, SandboxError, SandboxLost
from rlm_kernel.guest.wire import Channel
from rlm_kernel.sandbox.spec import Carrier, Sandbox, SandboxSpec
from rlm_kernel.session import SlotPool
from rlm_kernel.session import pool as pool_module
from tests.support.guest import Guest, guest_and_endpoint


class FakeRuntime:
    """Starts a `Guest` for each sandbox, which answers pings as long as it is not `silent`."""

    def __init__(self) -> None:
        self.guests: list[Guest] = []
        self.silent: set[Guest] = set()
        self.started = self.ended = 0
        self.errors: list[SandboxError] = []
        self.fails_to_end = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def carrier(self, wanted: Carrier | Literal["auto"]) -> Carrier:
        return "attach"

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[Sandbox]:
        self.started += 1
        number = self.started
        try:
            await self.gate.wait()
            if self.errors:
                raise self.errors.pop(0)
            async with guest_and_endpoint() as (guest, endpoint), asyncio.TaskGroup() as tasks:
                self.guests.append(guest)
                await guest.say(Channel.CONTROL, {"type": "kernel_warm", "generation": 1})
                answering = tasks.create_task(self._answer(guest))
                yield Sandbox(
                    runtime="fake",
                    oci_runtime="fake",
                    engine="fake",
                    container=f"container-{number}",
                    image="image",
                    image_id="sha256:0",
                    carrier="attach",
                    uid=40_000,
                    seen={},
                    endpoint=endpoint,
                    seed=spec.seeded().seed,
                )
                answering.cancel()
        finally:
            self.ended += 1
        if self.fails_to_end:
            raise SandboxError("the engine refused to remove the container")

    async def aclose(self) -> None:
        """Close nothing."""

    async def _answer(self, guest: Guest) -> None:
        with suppress(ConnectionError):
            while not await guest.read_some():
                if guest not in self.silent:
                    await guest.flush()


@pytest.fixture
def runtime() -> FakeRuntime:
    """The runtime."""
    return FakeRuntime()


@pytest.fixture
def spec(tmp_path: Path) -> SandboxSpec:
    """What every slot of the pool is."""
    return SandboxSpec(
        image="image",
        folder=tmp_path / "sessions",
        memory=2**29,
        cpus=1,
        pids=64,
        nofile=256,
        tmp_size=2**20,
        first_uid=40_000,
        last_uid=49_999,
    )


@pytest.fixture(autouse=True)
async def nothing_left(runtime: FakeRuntime, spec: SandboxSpec) -> AsyncIterator[None]:
    """Every sandbox that was started has ended, and so has every task; no folder is left."""
    yield
    assert runtime.started == runtime.ended
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    assert not spec.folder.exists() or list(spec.folder.iterdir()) == []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let deadlines be short."""
    monkeypatch.setattr(pool_module, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(pool_module, "ANSWER_DEADLINE", 0.2)


async def test_a_slot_is_taken_once_and_replaced(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """Slots are started ahead, each is given out once, and another is started for each that is taken."""
    async with SlotPool(runtime, spec, 2) as slots:
        await slots.filled()
        assert runtime.started == 2
        taken = [await slots.take(spec) for _ in range(5)]
        assert len({slot.sandbox.container for slot in taken}) == 5
        await slots.filled()
        assert (runtime.started, runtime.ended) == (7, 0)
        for slot in taken:
            slot.release()


async def test_a_released_slot_ends_in_the_background(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """`release` returns at once; leaving the pool waits for the end."""
    async with SlotPool(runtime, spec) as slots:
        slot = await slots.take(spec)
        slot.release()
        assert runtime.ended == 0
    assert runtime.ended == 1


async def test_a_pinned_seed_is_served_by_a_slot_that_has_it(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """A waiting slot has a seed of its own, and is not for who wants another one; who wants any gets it."""
    pinned = replace(spec, seed=7)
    async with SlotPool(runtime, spec, 1) as slots:
        await slots.filled()
        assert (await slots.take(pinned)).sandbox.container == "container-2"
        assert (await slots.take(spec)).sandbox.container == "container-1"
    async with SlotPool(runtime, pinned, 1) as slots:
        await slots.filled()
        assert (await slots.take(spec)).sandbox.container != "container-4"
        taken = await slots.take(pinned)
        assert (taken.sandbox.container, taken.sandbox.seed) == ("container-4", 7)


async def test_a_prepared_slot_of_another_kind_is_taken_or_spared(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """It is started once, beside those that the pool keeps, and ends when it is spared; the pool's own stay."""
    pinned = replace(spec, seed=7)
    async with SlotPool(runtime, spec, 1) as slots:
        await slots.filled()
        slots.prepare(pinned)
        slots.prepare(pinned)
        slot = await slots.take(pinned)
        assert (slot.sandbox.container, slot.sandbox.seed) == ("container-2", 7)
        slots.prepare(pinned)
        slots.spare(pinned)
        slots.spare(spec)
        assert (await slots.take(pinned)).sandbox.container == f"container-{runtime.started}"
        assert (await slots.take(spec)).sandbox.container == "container-1"
        assert runtime.started - runtime.ended <= 4


async def test_another_kind_of_slot_is_started_when_asked_for(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """Who wants another limit never gets a slot of the pool."""
    async with SlotPool(runtime, spec, 1) as slots:
        await slots.filled()
        await slots.take(replace(spec, pids=99))
        assert runtime.started == 2


async def test_an_error_is_the_takers(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """Who asks for a slot that can't be started is told why; the next one may start."""
    runtime.errors = [EngineUnavailable("no engine")]
    async with SlotPool(runtime, spec) as slots:
        with pytest.raises(EngineUnavailable):
            await slots.take(spec)
        await slots.take(spec)


async def test_slots_that_can_not_be_started_ahead_are_tried_again(
    runtime: FakeRuntime, spec: SandboxSpec, caplog: pytest.LogCaptureFixture
) -> None:
    """A failing engine is asked again after a while, not in a loop, and it is logged."""
    runtime.errors = [EngineUnavailable("no engine"), EngineUnavailable("no engine")]
    with caplog.at_level(logging.WARNING):
        async with SlotPool(runtime, spec, 1) as slots, asyncio.timeout(5):
            with pytest.raises(EngineUnavailable):
                await slots.filled()
            while len(runtime.guests) < 1:
                await asyncio.sleep(0.01)
            await slots.filled()
    assert runtime.started == 3
    assert caplog.text.count("could not be started ahead: no engine") == 2


async def test_a_slot_that_died_is_not_given_out(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """A slot whose container ended, or whose kernel did, while it waited is replaced."""
    async with SlotPool(runtime, spec, 2) as slots:
        await slots.filled()
        await runtime.guests[0].close()
        await runtime.guests[1].say(Channel.CONTROL, {"type": "kernel_died", "generation": 1, "code": 1})
        async with asyncio.timeout(5):
            while runtime.ended < 2 or len(runtime.guests) < 4:
                await asyncio.sleep(0.01)
        slot = await slots.take(spec)
        assert slot.sandbox.container not in ("container-1", "container-2")


async def test_a_slot_that_does_not_answer_is_not_given_out(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """A container that was frozen while it waited is passed over."""
    async with SlotPool(runtime, spec, 1) as slots:
        await slots.filled()
        runtime.silent.add(runtime.guests[0])
        slot = await slots.take(spec)
        assert slot.sandbox.container == "container-2"
        assert not slot.sandbox.endpoint.lost.done()


async def test_a_cancelled_take_gives_the_slot_up(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """A slot that is still starting when its taker is cancelled ends."""
    runtime.gate.clear()
    async with SlotPool(runtime, spec) as slots:
        taking = asyncio.ensure_future(slots.take(spec))
        await asyncio.sleep(0.01)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        async with asyncio.timeout(5):
            while not runtime.ended:
                await asyncio.sleep(0.01)


async def test_closing_ends_what_is_starting_and_what_was_taken(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """Leaving the pool ends slots in every state, and starts no new ones."""
    async with SlotPool(runtime, spec, 1) as slots:
        await slots.filled()
        slot = await slots.take(spec)
        await slots.filled()
        runtime.gate.clear()
        (await slots.take(spec)).release()  # another one is starting now, and will not get far
        await asyncio.sleep(0)
        assert runtime.started == 3
    assert slot.sandbox.endpoint.lost.done()
    assert isinstance(slot.sandbox.endpoint.lost.result(), SandboxLost)


async def test_what_is_not_cleaned_up_is_logged(
    runtime: FakeRuntime, spec: SandboxSpec, caplog: pytest.LogCaptureFixture
) -> None:
    """An end that fails hurts nobody who has their result, and is not silent."""
    runtime.fails_to_end = True
    async with SlotPool(runtime, spec) as slots:
        (await slots.take(spec)).release()
    assert "not cleaned up: the engine refused" in caplog.text


async def test_a_cancel_while_closing_waits_for_the_end(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """A cancel in the middle of the clean-up does not cut it short."""
    entered = asyncio.Event()

    async def use() -> None:
        async with SlotPool(runtime, spec) as slots:
            await slots.take(spec)
            entered.set()
            await asyncio.Event().wait()

    using = asyncio.ensure_future(use())
    await entered.wait()
    using.cancel()
    await asyncio.sleep(0)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert runtime.ended == 1


async def test_a_kernel_that_can_not_start_is_the_takers_error(runtime: FakeRuntime, spec: SandboxSpec) -> None:
    """A kernel that ended before its context came is told at the bind."""
    async with SlotPool(runtime, spec) as slots:
        slot = await slots.take(spec)
        await runtime.guests[0].say(Channel.CONTROL, {"type": "kernel_died", "generation": 1, "code": 1})
        lost = await asyncio.wait_for(asyncio.shield(slot.sandbox.endpoint.lost), 5)
        assert isinstance(lost, KernelFailed)
