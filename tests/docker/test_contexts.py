"""Contexts of every kind in a real container, on both carriers."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_kernel import RLM, Contexts, Settings
from rlm_kernel.errors import ContextTooLarge
from rlm_kernel.events import ContextStored, KernelReady, ModelRequested
from rlm_kernel.sandbox.spec import Carrier
from tests.attacks.conftest import printed, run
from tests.docker.conftest import MIB, OpenSession
from tests.docker.test_rlm import cell, script
from tests.support.sinks import Events


async def test_several_contexts(open_test_session: OpenSession, carrier: Carrier, events: Events) -> None:
    """Each is a variable of its name, and `context` has them all, in a kernel after a crash too."""
    given = Contexts(report="größe" * 200_000, orders=[{"city": "Lima"}], log="line")
    check = "print(len(report), orders[0]['city'], list(context), context['log'] is log)"
    async with open_test_session(given, carrier=carrier) as session:
        assert printed(await run(session, check)) == "1000000 Lima ['report', 'orders', 'log'] True\n"
        assert (await run(session, "import os; os._exit(1)")).status == "kernel_died"
        assert printed(await run(session, check)) == "1000000 Lima ['report', 'orders', 'log'] True\n"
    for ready in events.of(KernelReady):
        assert (ready.context_type, ready.context_length) == ("dict", 3)
        assert ready.contexts == {"report": ("str", 1_000_000), "orders": ("list", 1), "log": ("str", 4)}


async def test_a_run_over_several_contexts(settings: Settings, events: Events) -> None:
    """The recording has each by name, and the first request tells the model of each."""
    async with RLM(settings=settings, on_event=events) as rlm:
        result = await rlm.acompletion("Which?", Contexts(one="first text", two="second"))
    assert result.answer == "first text second"
    assert [(event.name, event.size) for event in events.of(ContextStored)] == [("one", 10), ("two", 6)]
    said = events.of(ModelRequested)[0].messages[-1].content
    assert "`one` is a `str` of 10 characters." in said
    assert "`two` is a `str` of 6 characters." in said


@pytest.fixture
def settings(image: str, tmp_path: Path) -> Settings:
    """Settings with a state folder of the test's own, and a root model that joins two contexts."""
    assert image
    model = script(tmp_path, cell("FINAL(f'{one} {context[\"two\"]}')"))
    return Settings(state_dir=tmp_path / "state", memory=512 * MIB, cell_timeout=30, model=model)


async def test_their_sizes_count_together(open_test_session: OpenSession) -> None:
    """Two contexts of which each would fit alone are refused where both do not."""
    half = "x" * (100 * MIB)
    with pytest.raises(ContextTooLarge, match="200 MiB"):
        async with open_test_session(Contexts(one=half, two=half + "y")):
            pass
