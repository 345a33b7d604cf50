"""Jobs: checked as a whole before anything starts, then run node by node, each with the results before it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlm_kernel.assembly.asked import Asked
from rlm_kernel.assembly.contexts import Context
from rlm_kernel.assembly.models import Models
from rlm_kernel.assembly.plain import ask_plainly
from rlm_kernel.assembly.prompting import known_window, root_profile
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.rlm import RLM
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.assembly.thread import run_in_thread
from rlm_kernel.budget import guess_tokens
from rlm_kernel.config import Settings, trace
from rlm_kernel.config.job import FileSource, Job, Node, ResultsSource, Source, ValueSource, read_job
from rlm_kernel.controller.compaction import FULL
from rlm_kernel.errors import ConfigError, ContextError, ContextUnreadable, NodeFailed, RlmKernelError
from rlm_kernel.events import TreeSink
from rlm_kernel.models.model import OnText
from rlm_kernel.sandbox.given import FORMS, Contexts, One

PLAIN_TOKENS = 100_000
"""What a plain call takes at most where the model's window is not known: most read so much at once."""
PROMPT_CHARACTERS = 200_000
"""What a question may have with the answers it names; longer ones belong into the context."""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What one node of a job came to."""

    node: str
    result: RunResult[Any]


class OpenJob:
    """A job whose models, keys, settings and contexts are there; `open_job` makes it."""

    def __init__(self, job: Job, settings: Sequence[Settings]) -> None:
        self.nodes = job.nodes
        self._settings = dict(zip((node.id for node in job.nodes), settings, strict=True))

    async def answer(
        self, node: Node, before: Sequence[NodeResult], on_event: TreeSink | None = None, on_text: OnText | None = None
    ) -> NodeResult:
        """Run one node, given the results of all nodes before it. Raise `NodeFailed`."""
        results = {each.node: each.result for each in before}
        try:
            return NodeResult(node.id, await self._answer(node, results, on_event, on_text))
        except RlmKernelError as error:
            raise NodeFailed(node.id, before, error) from error

    async def _answer(
        self, node: Node, results: Mapping[str, RunResult[Any]], on_event: TreeSink | None, on_text: OnText | None
    ) -> RunResult[Any]:
        answers = {name: result.answer for name, result in results.items()}
        settings, prompt = self._settings[node.id], node.filled(answers)
        if not node.rlm:
            prompt = "\n\n".join([prompt, *_texts(node, answers, _plain_tokens(settings))])
            _check_plain(node, prompt, settings)
            return await ask_plainly(prompt, settings, Listeners(on_event=on_event))
        if len(prompt) > PROMPT_CHARACTERS:
            raise ConfigError(
                f"{node.place}.prompt has {len(prompt):,} characters with the answers that it names, and at most "
                f'{PROMPT_CHARACTERS:,} can be: give them as a context, {{"nodes": […]}}'
            )
        async with aclosing(RLM(settings=settings, on_event=on_event, on_text=on_text)) as rlm:
            return await rlm.acompletion(prompt, _context(node, results), answer_type=node.answer_schema)


async def open_job(
    job: Path | str | Mapping[str, Any] | Sequence[Any],
    *,
    options: Mapping[str, str | None] | None = None,
    root: Path | None = None,
) -> OpenJob:
    """Read a job and check all of it: settings, models, keys, contexts. `options` are those of the command line.

    Raise `ConfigError` or `ContextError`, naming the place in the job.
    """
    read = read_job(job, root=root)
    settings = [_settings(node, options) for node in read.nodes]
    known: set[Settings] = set()
    for node, chosen in zip(read.nodes, settings, strict=True):
        try:
            _check(node, chosen)
            if chosen not in known:
                async with Models.open(chosen):
                    known.add(chosen)
        except (ConfigError, ContextError) as error:
            raise type(error)(f"{read.origin}: {node.place}: {error}") from error
    return OpenJob(read, settings)


async def arun_job(
    job: Path | str | Mapping[str, Any] | Sequence[Any],
    *,
    options: Mapping[str, str | None] | None = None,
    root: Path | None = None,
    on_event: TreeSink | None = None,
    on_result: Callable[[NodeResult], None] | None = None,
) -> list[NodeResult]:
    """Run a job, a file or a value of the same form, and return its nodes' results in order.

    All of it is checked before anything starts. `options` are settings as the command line gives them, which go before
    the job's own. Paths in a job lie in its file's folder (the working directory for a value), or in `root`.
    `on_result` is given each result as soon as it is there: a cancel takes none of them away. Raise `ConfigError` or
    `ContextError` where something can't be, and `NodeFailed`, which holds the results before it.
    """
    opened = await open_job(job, options=options, root=root)
    results: list[NodeResult] = []
    for node in opened.nodes:
        results.append(await opened.answer(node, tuple(results), on_event))
        if on_result is not None:
            on_result(results[-1])
    return results


def run_job(
    job: Path | str | Mapping[str, Any] | Sequence[Any],
    *,
    options: Mapping[str, str | None] | None = None,
    root: Path | None = None,
    on_event: TreeSink | None = None,
    on_result: Callable[[NodeResult], None] | None = None,
) -> list[NodeResult]:
    """Run a job as `arun_job` does, from code that is not async; within a running event loop too, which it blocks."""
    return run_in_thread(arun_job(job, options=options, root=root, on_event=on_event, on_result=on_result))


def _settings(node: Node, options: Mapping[str, str | None] | None) -> Settings:
    settings = trace(options, None, node.settings).settings
    return settings if node.rlm else replace(settings, sub_model=None)  # a plain call has none to ask


def _check(node: Node, settings: Settings) -> None:
    """Raise a `ContextError` or `ConfigError` for what can't be, as far as that is known before the start."""
    if node.rlm:
        Asked.of(node.prompt, node.answer_schema)
        root_profile(settings, settings.model)
        if "" not in node.contexts:
            Contexts(dict.fromkeys(node.contexts, ""))
    else:
        known = [source for source in node.contexts.values() if not isinstance(source, ResultsSource)]
        texts = [_text(source, {}, _plain_tokens(settings)) for source in known]
        _check_plain(node, "\n\n".join([node.prompt, *texts]), settings)


def _plain_tokens(settings: Settings) -> int:
    window = settings.model_window or known_window(settings.model)
    return PLAIN_TOKENS if window is None else int(window * FULL)


def _check_plain(node: Node, prompt: str, settings: Settings) -> None:
    most = _plain_tokens(settings)
    if (tokens := guess_tokens([prompt])) > most:
        raise ConfigError(
            f"{node.place}: prompt and context have about {tokens:,} tokens, too many for one plain call, which takes "
            f'{most:,}: set "rlm_enabled" to true'
        )


def _context(node: Node, results: Mapping[str, RunResult[Any]]) -> Context:
    given = {name: _one(source, results) for name, source in node.contexts.items()}
    return given[""] if "" in given else Contexts(given)


def _one(source: Source, results: Mapping[str, RunResult[Any]]) -> One:
    match source:
        case FileSource(path, form):
            return FORMS[form](path) if form else path
        case ValueSource(value):
            return value
        case ResultsSource(nodes):
            return {name: results[name].value for name in nodes}


def _texts(node: Node, answers: Mapping[str, str], most: int) -> list[str]:
    """Return the contexts as parts of a prompt, each under its name if it has one."""
    return [
        f"{name}:\n\n{_text(source, answers, most)}".removeprefix(":\n\n") for name, source in node.contexts.items()
    ]


def _text(source: Source, answers: Mapping[str, str], most: int) -> str:
    """Return what a source holds as text; a file that has more than `most` tokens for certain is not read."""
    match source:
        case FileSource(path):
            return _file_text(path, 8 * most)
        case ValueSource(str(value)):
            return value
        case ValueSource(value):
            return json.dumps(value, ensure_ascii=False)
        case ResultsSource(nodes):
            return "\n\n".join(f"{name}:\n\n{answers[name]}" for name in nodes)


def _file_text(path: Path, most: int) -> str:
    if path.is_dir():
        raise ContextUnreadable(f'{path} is a folder, and a plain call takes a text: set "rlm_enabled" to true')
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise ConfigError(f'{path} is too long for one plain call: set "rlm_enabled" to true')
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ContextUnreadable(f"{path} can't be read as text: {error}") from None
