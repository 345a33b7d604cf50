"""The audit: two sessions at most at a time, every check on them, one report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import docker
import msgspec

from rlm_kernel.audit.blast import explode
from rlm_kernel.audit.bombs import BOMBS, MORE_SECONDS, SECONDS, Blast, Bomb, given, is_too_slow, judge, unjudged
from rlm_kernel.audit.claims import Claims, Finding, Outcome, Scene, broken, found, held
from rlm_kernel.audit.engine import ENGINE, EngineFacts
from rlm_kernel.audit.escapes import ESCAPES, Attempts
from rlm_kernel.audit.gate import refusal
from rlm_kernel.audit.inside import INSIDE, Inside
from rlm_kernel.audit.inspected import CIS
from rlm_kernel.audit.programs import printed, program
from rlm_kernel.audit.report import Report
from rlm_kernel.errors import EngineUnavailable, ImageMissing, SandboxError, SandboxRefused
from rlm_kernel.events import AnyEvent, SandboxStarted
from rlm_kernel.sandbox.container import LABEL
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.engine import Engine
from rlm_kernel.sandbox.owner import owner
from rlm_kernel.sandbox.spec import SandboxRuntime, SandboxSpec
from rlm_kernel.session import Session, SessionSpec, SlotPool, open_session
from rlm_kernel.types import JSON

Facts = TypeVar("Facts")
CELL_TIMEOUT = 30.0
GIVEN = ("sandbox.given", "Every limit that is asked for is in force", "started a session and read its limits inside")
REMOVED = ("sandbox.removed", "No session leaves a container", "listed those that this program has started")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is audited: sessions of `spec` on `runtime`, and the engine behind it."""

    runtime: SandboxRuntime
    engine: Engine
    store: ContextStore
    spec: SandboxSpec


@dataclass(slots=True)
class _Started:
    """Takes a session's events and keeps the one that says what was started."""

    event: SandboxStarted | None = None

    def emit(self, event: AnyEvent) -> None:
        if isinstance(event, SandboxStarted):
            self.event = event


@dataclass(slots=True)
class _Findings:
    """The findings so far; each is told on as it comes."""

    tell: Callable[[Finding], None]
    all: list[Finding] = field(default_factory=list)

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.all.append(finding)
            self.tell(finding)


async def audit(subject: Subject, tell: Callable[[Finding], None]) -> Report:
    """Check every claim, tell each finding as it comes, and return them all; nothing of the sessions is left.

    Raise `EngineUnavailable`, `EngineTimeout` or `ImageMissing` where there is nothing to audit. A claim that can't be
    checked fails.
    """
    began = time.monotonic()
    facts = await subject.engine.call("describe itself", _describe)
    findings, started = _Findings(tell), _Started()
    subject = replace(subject, spec=await _as_given(subject))
    scene = Scene(spec=subject.spec, uid=0, oci_runtime=str(facts.info.get("DefaultRuntime", "")))
    try:
        async with SlotPool(subject.runtime, subject.spec) as slots, _open(subject, slots, started) as session:
            findings.add([found(*GIVEN, held("all, in the guest's own reading, before any code ran"))])
            assert started.event is not None
            scene = Scene(spec=subject.spec, uid=started.event.uid, oci_runtime=started.event.oci_runtime)
            findings.add(refusal(started.event.seen, scene))
            findings.add(ENGINE.judge(facts, scene))
            container = started.event.container
            inspected = await subject.engine.call("inspect", lambda client: client.inspect_container(container))
            findings.add(CIS.judge(inspected, scene))
            await _judge_cell(session, ("probe", Inside, INSIDE), findings, scene)
            await _judge_cell(session, ("escapes", Attempts, ESCAPES), findings, scene)
            for bomb in BOMBS:
                findings.add([judge(bomb, await _blast(subject, slots, session, bomb), scene)])
    except (EngineUnavailable, ImageMissing):
        raise
    except SandboxError as error:
        findings.add(_left_over(error, findings.all, facts, scene))
    findings.add([found(*REMOVED, await _removal(subject))])
    return Report(
        engine=facts.name, oci_runtime=scene.oci_runtime, seconds=time.monotonic() - began, findings=tuple(findings.all)
    )


async def _as_given(subject: Subject) -> SandboxSpec:
    """Return the spec with the carrier that it means here, and the private room that the carrier makes of it."""
    carrier = await subject.runtime.carrier(subject.spec.carrier)
    size = subject.spec.memory if carrier == "attach" else subject.spec.private_size
    return replace(subject.spec, carrier=carrier, private_size=size)


def _describe(client: docker.APIClient) -> EngineFacts:
    return EngineFacts(version=client.version(), info=client.info(), address=str(client.base_url))


def _open(
    subject: Subject, slots: SlotPool, sink: _Started, cell_timeout: float = CELL_TIMEOUT
) -> AbstractAsyncContextManager[Session]:
    context: JSON = given(subject.spec)
    spec = SessionSpec(
        sandbox=subject.spec, context=subject.store.put_value(context), models={}, cell_timeout=cell_timeout
    )
    return open_session(slots, spec, sink)


async def _blast(subject: Subject, slots: SlotPool, session: Session, bomb: Bomb) -> Blast:
    """Set off a bomb beside `session`; once more, with more time, where it was too slow to tell how far it got."""
    entries = len(given(subject.spec))
    blast = await explode(bomb, lambda: _open(subject, slots, _Started(), SECONDS), session, entries)
    if is_too_slow(bomb, blast):
        blast = await explode(bomb, lambda: _open(subject, slots, _Started(), MORE_SECONDS), session, entries)
    return blast


async def _judge_cell(
    session: Session, asked: tuple[str, Any, Claims[Facts]], findings: _Findings, scene: Scene
) -> None:
    """Run a cell that prints one JSON value; if it prints anything else, its claims are not checked."""
    name, kind, claims = asked
    result = await session.run_cell(program(name), turn=1)
    try:
        facts: Facts = msgspec.json.decode(printed(result), type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        why = f"its answer is no answer: {error}" if result.status == "ok" else f"the cell ended with {result.ename}"
        findings.add(claims.unchecked(why))
    else:
        findings.add(claims.judge(facts, scene))


def _left_over(error: SandboxError, done: list[Finding], facts: EngineFacts, scene: Scene) -> Iterator[Finding]:
    """Yield the findings of an audit that ended early: why, and a failure for each claim that it did not get to."""
    names = {finding.claim for finding in done}
    if GIVEN[0] not in names:
        reason = "the engine gives less than asked for" if isinstance(error, SandboxRefused) else "no session started"
        yield found(*GIVEN, broken(str(error), "docs/security.md says what an engine needs", reason))
    if not set(ENGINE.names) <= names:
        yield from ENGINE.judge(facts, scene)
    why = f"{type(error).__name__}: {error}"
    for claims in (CIS.unchecked(why), INSIDE.unchecked(why), ESCAPES.unchecked(why), unjudged(why)):
        yield from (finding for finding in claims if finding.claim not in names)


async def _removal(subject: Subject) -> Outcome:
    """Look for what the audit's sessions left."""
    filters = {"label": [f"{LABEL}.owner={owner()}"]}
    left = await subject.engine.call("list containers", lambda client: client.containers(all=True, filters=filters))
    names = " ".join(str(container["Id"])[:12] for container in left)
    return broken(names, f"docker rm -f {names}") if names else held("none is there")
