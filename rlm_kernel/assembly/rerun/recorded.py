"""What of a recording counts for a run that goes on from it, and what is no longer as it was.

A recording may come from anyone: nothing of it is used that could choose a place, an engine or a provider's address.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from rlm_kernel.assembly.contexts import Context, store_context
from rlm_kernel.config import SETTINGS, Setting, Settings, changed_settings
from rlm_kernel.errors import ConfigError
from rlm_kernel.events import ContextStored, ProfileChosen, SandboxStarted
from rlm_kernel.recording import Recording
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.given import MAX_CONTEXTS
from rlm_kernel.sandbox.stored import Stored, StoredContext, StoredContexts
from rlm_kernel.sandbox.variables import check_names
from rlm_kernel.session import check_fits
from rlm_kernel.types import JSON
from rlm_kernel.version import __version__

CONTEXTS_FOLDER = "contexts"
"""Where a run's folder has the contexts that were packed with it, each named by its digest."""

LED = frozenset(
    [
        "max_reply_tokens",
        "profile",
        "tool_calling",
        "model_window",
        "at_max_depth",
        "child_share",
        "rebuild",
        "default_chunk_strategy",
        "shown_output",
        "redact",
    ]
)
"""Settings of how the root model is led and how cells run, and of what is not told: as recorded, if not given anew."""

LIMITS = frozenset(
    [
        "max_turns",
        "cell_timeout",
        "run_timeout",
        "max_subcalls",
        "max_depth",
        "max_input_tokens",
        "max_output_tokens",
        "max_total_tokens",
        "max_cost",
        "max_output_size",
        "tool_timeout",
        "max_tool_calls",
        "max_parallel_tools",
        "max_parallel_subcalls",
    ]
)
"""As recorded too, but never more than what the user has set for every run."""

_LOWER = ("memory", "cpus", "pids", "nofile", "tmp_size")
_NAMES_SAID = 5
_LONGEST = 200


def recorded_settings(
    recording: Recording,
    own: Settings,
    *,
    given: Collection[str] = (),
    tell: Callable[[str], None] = lambda message: None,
) -> Settings:
    """Return `own` settings with those that count of the recorded ones; the names in `given` stay as they are.

    What is recorded and can't be is passed over, and `tell` hears of it. So is a limit that is above one of the user's
    own. Models are taken over by name, but no script's: that is a file here.
    """
    started = recording.started
    mine = changed_settings(own)
    values: dict[str, object] = {}
    for setting in SETTINGS:
        name = setting.name
        if name in given or name not in LED | LIMITS or name not in started.settings:
            continue
        if name == "redact" and (own.redact is not None or started.settings[name] is None):
            continue
        try:
            value = _checked(setting, started.settings[name])
        except ConfigError as error:
            tell(f"the recorded {setting.option} does not count: {str(error)[:_LONGEST]}")
            continue
        most = getattr(own, name)
        if name in LIMITS & mine and most is not None and _above(value, most):
            tell(f"{setting.option} stays at your own {setting.shown(most)}; the recorded run had more")
            continue
        values[name] = value
    values |= _models(started.model, started.sub_model, given, tell)
    if unknown := sorted(started.settings.keys() - {setting.name for setting in SETTINGS}):
        said = ", ".join(name[:_LONGEST] for name in unknown[:_NAMES_SAID])
        tell(f"this package has no settings of these recorded names: {said}")
    return replace(own, **cast(Any, values))


def lifted(settings: Settings, own: Settings) -> list[str]:
    """Say which limits of `settings` are above those of `own`: a recording may be a stranger's, and it costs money."""
    each = ((setting, getattr(settings, setting.name), getattr(own, setting.name)) for setting in SETTINGS)
    return [
        f"{setting.option} is {'none' if now is None else setting.shown(now)}, as recorded; "
        f"for a run of yours it is {setting.shown(most)}"
        for setting, now, most in each
        if setting.name in LIMITS and most is not None and _above(now, most)
    ]


def _checked(setting: Setting, value: JSON) -> object:
    read = setting.read_value(value, "it")
    if setting.name == "profile" and isinstance(read, str) and ("/" in read or read.endswith(".md")):
        raise ConfigError("a path counts only where it is given anew, with --profile")
    if setting.name == "redact" and isinstance(read, str) and "/" in read:
        raise ConfigError("an expression counts only where it is given anew, with --redact")
    return read


def _above(value: object, most: float) -> bool:
    return value is None or cast(float, value) > most


def _models(root: str, sub: str, given: Collection[str], tell: Callable[[str], None]) -> dict[str, object]:
    models = {"model": root, "sub_model": sub}
    found: dict[str, object] = {}
    for setting in SETTINGS:
        if (recorded := models.get(setting.name)) is None or setting.name in given:
            continue
        try:
            found[setting.name] = _model(setting, recorded)
        except ConfigError as error:
            tell(
                f"the recorded model {recorded[:_LONGEST]!r} does not count, choose one with {setting.option}: {error}"
            )
    return found


def _model(setting: Setting, recorded: str) -> object:
    if recorded.startswith("scripted:"):
        raise ConfigError("a script is a file of this machine")
    return setting.read_value(recorded, "it")


async def recorded_context(
    store: ContextStore, recording: Recording, memory: int, given: Context | None = None
) -> Stored:
    """Return the contexts that a run was recorded with, those in `given` in place of theirs.

    Each is found by its digest, in the store or in the run's folder. Raise `ContextMissing`, any other `ContextError`,
    and `ConfigError` for a name in `given` that the run had no context of.
    """
    wanted = recording.contexts()
    named = _check_wanted(wanted)
    mine = {} if given is None else _by_name(await store_context(store, given, memory), named)
    beside = recording.path.parent / CONTEXTS_FOLDER
    parts = [
        mine[each.name] if each.name in mine else await asyncio.to_thread(store.find, each, beside, max_bytes=memory)
        for each in wanted
    ]
    stored: Stored = parts[0] if named == ["context"] else StoredContexts(tuple(parts))
    check_fits(stored, memory)
    return stored


def _check_wanted(wanted: list[ContextStored]) -> list[str]:
    names = [each.name for each in wanted]
    if not names:
        raise ConfigError("the run ended before its context was stored: there is nothing to go on from, ask it anew")
    if len(names) > MAX_CONTEXTS or len(set(names)) < len(names):
        raise ConfigError("the recorded contexts' names can't be those of one run")
    if names != ["context"]:
        check_names(names, "context")
    return names


def _by_name(stored: Stored, names: list[str]) -> Mapping[str, StoredContext]:
    parts = [*stored.parts]
    if len(parts) == len(names) == 1 and parts[0].name == "context":
        parts = [replace(parts[0], name=names[0])]
    if unknown := [part.name for part in parts if part.name not in names]:
        raise ConfigError(f"the recorded run has no context {unknown[0]!r}; it has {', '.join(names)}")
    return {part.name: part for part in parts}


def changed(
    recording: Recording,
    settings: Settings | None = None,
    stored: Stored | None = None,
    *,
    sandbox: SandboxStarted | None = None,
    profile: ProfileChosen | None = None,
) -> list[str]:
    """Say what of what is given is not as it was recorded, in words that name each thing; of versions with settings."""
    return [
        *([] if settings is None else (*_versions(recording), *_lower(recording, settings))),
        *([] if stored is None else _other_contexts(recording, stored)),
        *([] if sandbox is None else _other_sandbox(recording, sandbox)),
        *([] if profile is None else _other_profile(recording, profile)),
    ]


def _versions(recording: Recording) -> Iterator[str]:
    started = recording.started
    for what, then, now in (
        ("rlm_kernel", started.package_version, __version__),
        ("the host's Python", started.python_version, platform.python_version()),
    ):
        if then != now:
            yield f"{what} is {now}, it was {then[:_LONGEST]}"


def _lower(recording: Recording, settings: Settings) -> Iterator[str]:
    then = recording.started.settings
    for setting in SETTINGS:
        value, now = then.get(setting.name), getattr(settings, setting.name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not isinstance(now, int | float):
            continue
        if (setting.name in LIMITS or setting.name in _LOWER) and now < value:
            yield f"{setting.option} is {setting.shown(now)}, it was {setting.shown(value)}"


def _other_contexts(recording: Recording, stored: Stored) -> Iterator[str]:
    now = {part.name: part for part in stored.parts}
    for then in recording.contexts():
        part = now.get(then.name)
        if part is None:
            yield f"the context {then.name[:_LONGEST]!r} is not given"
        elif (part.digest, part.index_digest, part.kind) != (then.digest, then.index_digest, then.kind):
            yield (
                f"the context {then.name!r} is another one: {part.size:,} bytes, SHA-256 {part.digest}; "
                f"it was {then.size:,} bytes, SHA-256 {then.digest[:_LONGEST]}"
            )


def _other_sandbox(recording: Recording, now: SandboxStarted) -> Iterator[str]:
    sandboxes = recording.root.sandboxes
    if not sandboxes:
        return
    then = recording.expect(sandboxes[0], SandboxStarted)
    if then.image_id != now.image_id:
        yield (
            f"the sandbox image is another one: {now.image} ({now.image_id}), "
            f"it was {then.image[:_LONGEST]} ({then.image_id[:_LONGEST]})"
        )
    if then.oci_runtime != now.oci_runtime:
        yield f"the OCI runtime is {now.oci_runtime}, it was {then.oci_runtime[:_LONGEST]}"
    yield from _other_packages(then.packages, now.packages)


def _other_packages(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Name each package in the sandbox whose version is another one; a recording that has none says nothing."""
    if not then or not now:
        return
    for name in sorted({*then, *now}):
        before, after = then.get(name, "not there")[:_LONGEST], now.get(name, "not there")
        if before != after:
            yield f"{name[:_LONGEST]} in the sandbox is {after}, it was {before}"


def _other_profile(recording: Recording, now: ProfileChosen) -> Iterator[str]:
    then = next((event for event in _profiles(recording)), None)
    if then is not None and (then.name, then.digest) != (now.name, now.digest):
        yield (
            f"the prompt profile is {now.name!r} (SHA-256 {now.digest}), "
            f"it was {then.name[:_LONGEST]!r} (SHA-256 {then.digest[:_LONGEST]})"
        )


def _profiles(recording: Recording) -> Iterator[ProfileChosen]:
    for seq in recording.root.others:
        if isinstance(event := recording.event(seq), ProfileChosen):
            yield event
