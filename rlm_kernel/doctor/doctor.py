"""Every check at once, each with the same deadline, so that nothing that hangs keeps the others from being told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from rlm_kernel.config import Settings
from rlm_kernel.doctor.check import Check, problem
from rlm_kernel.doctor.engine import check_engine
from rlm_kernel.doctor.leftovers import check_leftovers
from rlm_kernel.doctor.machine import (
    check_local_model,
    check_memory,
    check_other_runtimes,
    check_python,
    check_state_folder,
    check_user_ids,
)
from rlm_kernel.doctor.models import check_keys

Look = Callable[[Settings], Iterator[Check]]
LOOKS: tuple[tuple[str, Look], ...] = (
    ("python", check_python),
    ("engine", check_engine),
    ("leftovers", check_leftovers),
    ("state folder", check_state_folder),
    ("user ids", check_user_ids),
    ("memory", check_memory),
    ("models", check_keys),
    ("local model", check_local_model),
    ("tools", check_other_runtimes),
)
DEADLINE = 2.5


def examine(
    settings: Settings, looks: Sequence[tuple[str, Look]] = LOOKS, *, deadline: float = DEADLINE
) -> tuple[Check, ...]:
    """Return what every look found, in order, within `deadline` seconds; one that hangs is a problem."""
    answers: list[list[Check]] = [[] for _ in looks]
    threads = [
        # Daemons: one that hangs, on a dead network folder say, must not keep the process from ending.
        threading.Thread(target=_look, args=(name, look, settings, answer), daemon=True)
        for (name, look), answer in zip(looks, answers, strict=True)
    ]
    end = time.monotonic() + deadline
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return tuple(
        check
        for (name, _), thread, answer in zip(looks, threads, answers, strict=True)
        for check in ([_blind(name, f"nothing within {deadline:g} s")] if thread.is_alive() else answer)
    )


def _look(name: str, look: Look, settings: Settings, answer: list[Check]) -> None:
    try:
        answer.extend(look(settings))
    except Exception as error:  # noqa: BLE001 - whatever one look stumbles over, the others are to be told, and so is this
        answer.append(_blind(name, f"{type(error).__name__}: {error}"))


def _blind(name: str, seen: str) -> Check:
    remedy = "see what keeps it from being looked at, and try again"
    return problem(name.replace(" ", "-"), f"The {name} can be looked at", seen, remedy)
