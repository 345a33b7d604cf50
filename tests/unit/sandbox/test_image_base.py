"""Which base is chosen, told by an HTTP server that answers as an engine without a usable registry would."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker
import pytest

from rlm_kernel.sandbox.image_base import PYTHON_BASE, choose_base
from rlm_kernel.sandbox.image_sources import ImageSources

LIMIT = "toomanyrequests: You have reached your pull rate limit"
SOURCES = ImageSources.find()


@contextmanager
def engine_answering(*, probe: int, pull: tuple[int, object]) -> Iterator[docker.APIClient]:
    """Yield a client of an engine that has the Debian base only; `probe` and `pull` are what the registry leads to."""

    class Handler(BaseHTTPRequestHandler):
        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Write nothing."""

        def do_GET(self) -> None:
            if "/distribution/" in self.path:
                self.answer(probe, {"message": "from the registry"})
            elif SOURCES.base_tag() in self.path:
                self.answer(200, {"Id": "sha256:0", "Config": {"Labels": None}})
            else:
                self.answer(404, {"message": "No such image"})

        def do_POST(self) -> None:
            assert "/images/create" in self.path
            self.answer(*pull)

        def answer(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = docker.APIClient(f"tcp://127.0.0.1:{server.server_port}", version="1.41", timeout=5)
    try:
        yield client
    finally:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()


def test_registry_that_answers_gives_the_base() -> None:
    """Where the pull succeeds, Python's image is the base."""
    said: list[str] = []
    with engine_answering(probe=200, pull=(200, {"status": "Downloaded newer image"})) as client:
        assert choose_base(client, SOURCES, "auto", said.append) == PYTHON_BASE
    assert said == [f"Fetching {PYTHON_BASE}", "Downloaded newer image"]


@pytest.mark.parametrize("pull", [(200, {"error": LIMIT}), (500, {"message": LIMIT})], ids=["in the stream", "at once"])
def test_pull_that_fails_falls_back(pull: tuple[int, object]) -> None:
    """A registry that answers and then refuses, as for a rate limit, is as good as none; its words are said."""
    said: list[str] = []
    with engine_answering(probe=200, pull=pull) as client:
        assert choose_base(client, SOURCES, "auto", said.append) == SOURCES.base_tag()
    assert LIMIT in "\n".join(said)
    assert said[-1].startswith("No registry gives")


def test_silent_registry_is_not_pulled_from() -> None:
    """Where the probe fails no pull is tried, as it would take minutes."""
    said: list[str] = []
    with engine_answering(probe=500, pull=(200, {})) as client:
        assert choose_base(client, SOURCES, "auto", said.append) == SOURCES.base_tag()
    assert not any("Fetching" in line for line in said)


def test_named_base_is_taken_as_it_is() -> None:
    """No registry is asked for another base than the one that was named."""
    with engine_answering(probe=500, pull=(500, {})) as client:
        assert choose_base(client, SOURCES, "example.org/python:3.11", print) == "example.org/python:3.11"
        assert choose_base(client, SOURCES, "debian", print) == SOURCES.base_tag()
