"""Serve one GGUF file over HTTP with llama.cpp; a program of its own, run by `LocalModel`.

It reads one line of JSON from stdin (the fields of `Settings`), binds a free port of 127.0.0.1, writes its address
as one line to stdout, and ends when stdin does. So it can't outlive its parent, however that one dies.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TypedDict

import xllamacpp  # type: ignore[import-untyped]


class Settings(TypedDict):
    """What to serve: its name, its file, the key to ask for, how many requests at once, tokens for each, threads."""

    name: str
    path: str
    key: str
    slots: int
    context: int
    threads: int


def main() -> None:
    """Serve until stdin ends."""
    settings: Settings = json.loads(sys.stdin.readline())

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    params.ui = False
    params.endpoint_slots = False
    params.offline = True
    params.verbosity = 1
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["slots"] * settings["context"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.cache_ram_mib = 0
    params.warmup = False
    params.sampling.temp = 0.0
    params.sampling.seed = 1
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # an orderly shutdown would first finish the running requests, which nobody waits for


if __name__ == "__main__":
    main()
