"""The functions that ask: sub-models one question each, and sessions like this one."""

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, wait
from typing import Any

from .cuts import is_nested
from .images import encoded
from .subcalls import Reply, Subcalls

_host: Subcalls
Question = dict[str, Any]


def attach(subcalls: Subcalls) -> None:
    """Connect the functions below with the host."""
    global _host  # noqa: PLW0603  one kernel, one host
    _host = subcalls


def llm_query(prompt: str, model: str | None = None, *, images: Sequence[Any] = ()) -> str:
    """Ask a sub-model one question and return its answer as text.

    `images` go with it: images that are contexts, or the bytes of PNG, JPEG, GIF or WebP files.
    """
    return _answer(_post("llm", [_question(prompt, model, images)]))


def llm_query_batched(
    prompts: Sequence[str],
    model: str | None = None,
    *,
    images: Sequence[Sequence[Any]] | None = None,
    return_exceptions: bool = False,
) -> list[Any]:
    """Ask many questions in parallel and return the answers in order; `images` are a list for each prompt.

    If one fails, its error is raised once all have finished; with `return_exceptions` it is returned in its place.
    """
    return _answers(_post("llm", _questions(prompts, model, images)), return_exceptions)


async def allm_query(prompt: str, model: str | None = None, *, images: Sequence[Any] = ()) -> str:
    """Ask a sub-model one question; the awaitable form of `llm_query`."""
    return await _awaited(_post("llm", [_question(prompt, model, images)]))


async def allm_query_batched(
    prompts: Sequence[str],
    model: str | None = None,
    *,
    images: Sequence[Sequence[Any]] | None = None,
    return_exceptions: bool = False,
) -> list[Any]:
    """Ask many questions in parallel; the awaitable form of `llm_query_batched`."""
    return await _all_awaited(_post("llm", _questions(prompts, model, images)), return_exceptions)


def rlm_query(prompt: str, model: str | None = None, *, context: Any = None) -> str:
    """Have a session like this one, with a model and a Python session of its own, answer `prompt` about `context`.

    `context` is a text or a JSON value, and its variable `context`; without one that is the prompt.
    """
    return _answer(_post("rlm", [_task(prompt, model, context)]))


def rlm_query_batched(
    prompts: Sequence[str],
    model: str | None = None,
    *,
    contexts: Sequence[Any] | None = None,
    return_exceptions: bool = False,
) -> list[Any]:
    """Have many sessions answer, each prompt about the context at its place; the rest is as `llm_query_batched`."""
    return _answers(_post("rlm", _tasks(prompts, model, contexts)), return_exceptions)


async def arlm_query(prompt: str, model: str | None = None, *, context: Any = None) -> str:
    """Have a session answer; the awaitable form of `rlm_query`."""
    return await _awaited(_post("rlm", [_task(prompt, model, context)]))


async def arlm_query_batched(
    prompts: Sequence[str],
    model: str | None = None,
    *,
    contexts: Sequence[Any] | None = None,
    return_exceptions: bool = False,
) -> list[Any]:
    """Have many sessions answer; the awaitable form of `rlm_query_batched`."""
    return await _all_awaited(_post("rlm", _tasks(prompts, model, contexts)), return_exceptions)


def call(kind: str, fields: dict[str, Any]) -> str | BaseException:
    """Make one call of a kind and return its text, or its failure."""
    replies: list[str | BaseException] = _answers(_post(kind, [fields]), return_exceptions=True)
    return replies[0]


async def acall(kind: str, fields: dict[str, Any]) -> str | BaseException:
    """Make one call; the awaitable form of `call`."""
    replies: list[str | BaseException] = await _all_awaited(_post(kind, [fields]), return_exceptions=True)
    return replies[0]


FUNCTIONS = (
    llm_query,
    llm_query_batched,
    allm_query,
    allm_query_batched,
    rlm_query,
    rlm_query_batched,
    arlm_query,
    arlm_query_batched,
)


def _question(prompt: str, model: str | None, images: Sequence[Any] = ()) -> Question:
    if not isinstance(prompt, str):
        raise TypeError(f"a prompt must be a str, not {type(prompt).__name__}")
    if not prompt.strip():
        raise ValueError("the prompt is empty")
    if model is not None and not isinstance(model, str):
        raise TypeError(f"model must be a str or None, not {type(model).__name__}")
    sent = encoded(images)
    return {"prompt": prompt, "model": model, **({"images": sent} if sent else {})}


def _questions(
    prompts: Iterable[str], model: str | None, images: Sequence[Sequence[Any]] | None = None
) -> list[Question]:
    if isinstance(prompts, str):
        raise TypeError("prompts must be a list of str, not one str")
    asked = list(prompts)
    if images is None:
        return [_question(prompt, model) for prompt in asked]
    if len(images) != len(asked):
        raise ValueError("images must be a list with a list of images for each prompt")
    return [_question(prompt, model, with_it) for prompt, with_it in zip(asked, images, strict=True)]


def _task(prompt: str, model: str | None, context: Any) -> Question:
    question = _question(prompt, model)
    if context is None:
        return question
    try:
        json.dumps(context, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"a context must be a str or a JSON value: {error}") from None
    if is_nested(context):
        raise ValueError("the context has lists and dicts too deep in each other")
    return question | {"context": context}


def _tasks(prompts: Sequence[str], model: str | None, contexts: Sequence[Any] | None) -> list[Question]:
    questions = _questions(prompts, model)
    if contexts is None:
        return questions
    if isinstance(contexts, str) or len(contexts) != len(questions):
        raise ValueError("contexts must be a list with one context for each prompt")
    return [_task(question["prompt"], model, context) for question, context in zip(questions, contexts, strict=True)]


def _post(kind: str, questions: Iterable[Question]) -> "list[Future[Reply]]":
    """Send the questions, all of them or none."""
    encoded = [_host.encode(kind, **question) for question in questions]
    return [_host.post(number, payload) for number, payload in encoded]


def _answer(futures: "list[Future[Reply]]") -> str:
    return str(_answers(futures)[0])


def _answers(futures: "list[Future[Reply]]", return_exceptions: bool = False) -> list[Any]:
    try:
        wait(futures)
    finally:
        for future in futures:
            future.cancel()
    return _collected([future.exception() or future.result() for future in futures], return_exceptions)


async def _awaited(futures: "list[Future[Reply]]") -> str:
    return str((await _all_awaited(futures))[0])


async def _all_awaited(futures: "list[Future[Reply]]", return_exceptions: bool = False) -> list[Any]:
    replies = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
    return _collected(replies, return_exceptions)


def _collected(replies: Sequence[Reply | BaseException], return_exceptions: bool) -> list[Any]:
    """Return the texts, with what the host has to say of them on standard error. Raise the first failure."""
    for note in dict.fromkeys(reply["note"] for reply in replies if isinstance(reply, dict) and "note" in reply):
        print(f"note: {note}", file=sys.stderr)  # noqa: T201  it is for who reads the cell's output
    failed = [index for index, reply in enumerate(replies) if isinstance(reply, BaseException)]
    if failed and not return_exceptions:
        error = replies[failed[0]]
        assert isinstance(error, BaseException)
        if len(replies) > 1:
            error.add_note(f"{len(failed)} of {len(replies)} sub-calls failed; this one is number {failed[0]} from 0")
        raise error
    return [reply["text"] if isinstance(reply, dict) else reply for reply in replies]
