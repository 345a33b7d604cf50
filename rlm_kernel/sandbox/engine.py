"""Calls of a Docker engine: off the event loop, each with a deadline, foreign errors mapped."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import docker
import docker.errors
import requests
from docker.context import ContextAPI
from docker.utils import kwargs_from_env, parse_host

from rlm_kernel.errors import EngineTimeout, EngineUnavailable, ImageMissing, SandboxError
from rlm_kernel.sandbox.ssh import Tunnel

T = TypeVar("T")
CALL_DEADLINE = 30.0
REMEDY = "run `make engine` in a checkout of rlm_kernel, start Docker yourself, or set DOCKER_HOST"


class EngineClient(docker.APIClient):
    """The library's client, which knows where the engine is and ends the tunnel that it was given.

    `address` is http+unix://PATH, http://HOST:PORT, or https://HOST:PORT.
    """

    def __init__(self, options: Mapping[str, Any], deadline: float) -> None:
        """`options` are those of the library. It blocks."""
        options = dict(options)
        self.tunnel = Tunnel(url, deadline) if (url := options["base_url"]).startswith("ssh://") else None
        if self.tunnel is not None:
            options["base_url"] = self.tunnel.address
        try:
            self.address: str = parse_host(options["base_url"], False, bool(options.get("tls")))
            _knock(self.address)
            super().__init__(version="auto", timeout=int(deadline), **options)
        except BaseException:  # nobody has what was begun, so nobody else can end it
            if self.tunnel is not None:
                self.tunnel.close()
            raise

    @property
    def is_near(self) -> bool:
        """Whether the engine's socket is on this host, as far as one can tell."""
        return self.tunnel is None and self.address.startswith("http+unix://")

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Let the certificate authority given for the engine go before the one that REQUESTS_CA_BUNDLE names."""
        return super().merge_environment_settings(url, proxies, stream, verify, cert) | {"verify": self.verify}

    def close(self) -> None:
        """Close the connections."""
        super().close()
        if self.tunnel is not None:
            self.tunnel.close()


def connect(docker_host: str | None = None, *, deadline: float = CALL_DEADLINE) -> EngineClient:
    """Return a client for `docker_host`, else DOCKER_HOST, else the current Docker context. It blocks.

    Raise `EngineUnavailable` if no engine answers within `deadline` seconds.
    """
    host = docker_host or os.environ.get("DOCKER_HOST")
    try:
        options = kwargs_from_env({**os.environ, "DOCKER_HOST": host}) if host else _context_options()
        return EngineClient(options, deadline)
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        where = host or "the current Docker context"
        raise EngineUnavailable(f"no container engine answers at {where} ({error}): {REMEDY}") from None


def _knock(address: str) -> None:
    """Raise `OSError` if nobody listens at a unix socket; the library would leave one of its own open over that."""
    if address.startswith("http+unix://"):
        with socket.socket(socket.AF_UNIX) as knock:
            knock.connect("/" + address.removeprefix("http+unix://").lstrip("/"))


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
        self._client: EngineClient | None = None
        self._connecting = asyncio.Lock()
        self.version: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        """What the engine says of itself, once `client` has returned."""

    async def client(self) -> EngineClient:
        """Return the connected client. Raise `EngineUnavailable`."""
        async with self._connecting:
            if self._client is None:
                client = await self._run(connect, self._docker_host)
                self.version = await self._run(client.version)
                self.info = await self._run(client.info)
                self._client = client
        return self._client

    async def call(self, what: str, function: Callable[[EngineClient], T]) -> T:
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

    def begin(self, function: Callable[[EngineClient], T]) -> asyncio.Future[T]:
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
