"""Calls of a Docker engine: off the event loop, each with a deadline, foreign errors mapped."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import docker
import docker.errors
import requests
from docker.context import ContextAPI
from docker.utils import kwargs_from_env

from rlm_kernel.errors import EngineTimeout, EngineUnavailable, ImageMissing, SandboxError

T = TypeVar("T")
CALL_DEADLINE = 30.0
REMEDY = "run `make engine` in a checkout of rlm_kernel, start Docker yourself, or set DOCKER_HOST"


def connect(docker_host: str | None = None, *, deadline: float = CALL_DEADLINE) -> docker.APIClient:
    """Return a client for `docker_host`, else DOCKER_HOST, else the current Docker context. It blocks.

    Raise `EngineUnavailable` if no engine answers within `deadline` seconds.
    """
    where = docker_host or os.environ.get("DOCKER_HOST") or "the current Docker context"
    try:
        options = kwargs_from_env() if os.environ.get("DOCKER_HOST") else _context_options()
        if docker_host:
            options["base_url"] = docker_host
        _knock(options["base_url"])
        return docker.APIClient(version="auto", timeout=int(deadline), **options)
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineUnavailable(f"no container engine answers at {where} ({error}): {REMEDY}") from None


def _knock(address: str) -> None:
    """Raise `OSError` if nobody listens at a unix socket; the library would leave one of its own open over that."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as knock:
            knock.connect("/" + address.removeprefix("unix://").lstrip("/"))


def _context_options() -> dict[str, Any]:
    options = dict(ContextAPI.kwargs_from_context())
    if not options:
        raise EngineUnavailable(
            "the current Docker context does not exist: choose another with `docker context use`, or set DOCKER_HOST"
        )
    return options


class Engine:
    """One engine, called from worker threads.

    A call that was begun is never abandoned: a cancel waits for its end, which the deadline bounds, so that what it
    made is known to those who clean up.
    """

    def __init__(self, docker_host: str | None = None) -> None:
        self._docker_host = docker_host
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="engine")
        self._client: docker.APIClient | None = None
        self._connecting = asyncio.Lock()
        self.version: dict[str, Any] = {}
        """What the engine says of itself, once `client` has returned."""

    async def client(self) -> docker.APIClient:
        """Return the connected client. Raise `EngineUnavailable`."""
        async with self._connecting:
            if self._client is None:
                client = await self._run(connect, self._docker_host)
                self.version = await self._run(client.version)
                self._client = client
        return self._client

    async def call(self, what: str, function: Callable[[docker.APIClient], T]) -> T:
        """Run `function(client)` in a thread; `what` names the call in errors.

        Raise `EngineUnavailable`, `EngineTimeout`, `ImageMissing`, or `docker.errors.APIError` where the caller may
        know what to make of it.
        """
        client = await self.client()
        try:
            return await self._run(function, client)
        except docker.errors.ImageNotFound as error:
            raise ImageMissing(
                f"the engine has no such image ({error.explanation}): run `rlm-kernel image build`"
            ) from None
        except docker.errors.APIError:
            raise
        except requests.Timeout:
            raise EngineTimeout(f"the engine did not {what} within {CALL_DEADLINE:.0f} s: is it overloaded?") from None
        except requests.RequestException as error:
            raise EngineUnavailable(f"the engine went away while it was to {what} ({error}): {REMEDY}") from None

    def begin(self, function: Callable[[docker.APIClient], T]) -> asyncio.Future[T]:
        """Begin `function(client)` in a thread, for a caller that is connected and may not wait for its end."""
        assert self._client is not None
        return asyncio.get_running_loop().run_in_executor(self._threads, partial(function, self._client))

    async def aclose(self) -> None:
        """Close the connections; calls under way end first."""
        if self._client is not None:
            self._client.close()
            self._client = None
        self._threads.shutdown(wait=False)

    async def _run(self, function: Callable[..., T], *args: object) -> T:
        call = asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            while not call.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({call})
            call.exception()
            raise


def refused(what: str, error: docker.errors.APIError) -> str:
    """Return the words for an engine that said no to `what`."""
    return f"the engine refused to {what}: {error.explanation or error}"


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Raise the engine's errors as this package's own; `what` completes "the engine refused to"."""
    try:
        yield
    except docker.errors.APIError as error:
        raise SandboxError(refused(what, error)) from None
    except requests.Timeout:
        raise EngineTimeout(f"the engine did not {what} in time: is it overloaded?") from None
    except requests.RequestException as error:
        raise EngineUnavailable(f"the engine went away while it was to {what} ({error}): start it again") from None
