"""The settings of a session's container, and of the engine that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from rlm_kernel.config.setting import Setting
from rlm_kernel.config.values import parse_number, parse_size, parse_whole

Carrier = Literal["auto", "socket", "attach"]

LEAST_UID, MOST_UID = 1000, 65533
"""Below are the system's users, above is nobody."""
LEAST_MEMORY = 224 * 2**20
"""A session without any context fits into this."""


@dataclass(frozen=True, kw_only=True)
class ContainerSettings:
    """What containers are like and where they run."""

    memory: Annotated[int, Setting("Memory of the container.", "SIZE", parse_size, least=LEAST_MEMORY)] = 2**30
    cpus: Annotated[float, Setting("CPUs of the container.", "N", parse_number, least=0.1, most=1024)] = 1.0
    pids: Annotated[int, Setting("Processes and threads in the container.", "N", parse_whole, least=32)] = 256
    nofile: Annotated[int, Setting("Open files of a process in the container.", "N", parse_whole, least=128)] = 1024
    tmp_size: Annotated[
        int, Setting("Size of the container's /tmp, counted as its memory.", "SIZE", parse_size, least=2**20)
    ] = 64 * 2**20
    uid_first: Annotated[
        int,
        Setting(
            "First user id for containers; each session has one of its own.",
            "UID",
            parse_whole,
            least=LEAST_UID,
            most=MOST_UID,
        ),
    ] = 40_000
    uid_last: Annotated[
        int, Setting("Last user id for containers.", "UID", parse_whole, least=LEAST_UID, most=MOST_UID)
    ] = 49_999
    carrier: Annotated[
        Carrier,
        Setting("How host and guest are joined: auto, socket or attach.", "CARRIER", str, choices=get_args(Carrier)),
    ] = "auto"
    pool_size: Annotated[
        int,
        Setting(
            "Sandboxes kept started ahead, for programs that run many sessions.", "N", parse_whole, least=0, most=1000
        ),
    ] = 0
    docker_host: Annotated[
        str | None, Setting("The Docker engine's address; DOCKER_HOST if not given.", "URL", str, optional=True)
    ] = None
    oci_runtime: Annotated[
        str | None,
        Setting(
            "The engine's name of the OCI runtime, such as runsc; its default one if not given.",
            "NAME",
            str,
            optional=True,
        ),
    ] = None
