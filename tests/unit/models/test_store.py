"""Answers on disk: what makes requests equal, what is kept, and what a broken disk does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.models.store import AnswerStore, request_key
from rlm_kernel.storage import UNFINISHED
from rlm_kernel.types import JSON, Image, Message, Tool, ToolCall, Usage
from tests.unit.models.fakes import ASK, USED

MODEL: Mapping[str, JSON] = {"provider": "openai", "address": "https://a/v1", "model": "m"}
ANSWER = Completion(
    text="é\n\ud7ff", finish_reason="stop", usage=USED, served_by="m-1", reply_id="r1", attempts=3, reasoning={"a": [1]}
)
KEY = request_key(MODEL, ASK)

OTHER: dict[str, Any] = {
    "messages": (Message("user", "hullo"),),
    "max_output_tokens": 7,
    "tools": (Tool("python", "runs code", {"type": "object"}),),
    "extra": {"temperature": 0},
    "context": msgspec.Raw(b'{"a": 1}'),
}
"""Another value for each field of a request that counts."""
SAME: dict[str, Any] = {
    "on_retry": lambda attempt, error, wait: None,
    "on_text": lambda delta: None,
    "queued": nullcontext,
    "call": "s7",
}
"""Another value for each field that can't change the answer."""


def test_every_field_of_a_request_is_in_the_key_or_known_not_to_be() -> None:
    """A new field of a request has to be listed here: it changes the key, or it is known to change no answer."""
    assert {field.name for field in fields(ModelRequest)} == OTHER.keys() | SAME.keys()


@pytest.mark.parametrize("field", OTHER)
def test_what_could_change_the_answer_changes_the_key(field: str) -> None:
    """Requests that differ in anything that the model sees have different keys."""
    assert request_key(MODEL, replace(ASK, **{field: OTHER[field]})) != KEY


@pytest.mark.parametrize("field", SAME)
def test_what_cannot_change_the_answer_leaves_the_key(field: str) -> None:
    """Requests that differ in what is between us and the caller alone are the same."""
    assert request_key(MODEL, replace(ASK, **{field: SAME[field]})) == KEY


@pytest.mark.parametrize(
    "message",
    [
        Message("system", "hello"),
        Message("user", "hello "),
        Message("user", "hello", images=(Image("image/png", b"1"),)),
        Message("user", "hello", images=(Image("image/png", b"2"),)),
        Message("user", "hello", tool_call_id="1"),
        Message("user", "hello", tool_calls=(ToolCall("1", "python", "{}"),)),
        Message("user", "hello", reasoning={"a": 1}),
    ],
    ids=str,
)
def test_all_of_a_message_counts(message: Message) -> None:
    """Every part of every message is in the key."""
    keys = {request_key(MODEL, ModelRequest(messages=messages)) for messages in ((message,), (message,) * 2)}
    assert len(keys | {KEY}) == 3


@pytest.mark.parametrize("part", MODEL)
def test_each_part_of_the_models_identity_counts(part: str) -> None:
    """Another provider, address or model is asked anew."""
    assert request_key({**MODEL, part: "other"}, ASK) != KEY


def test_the_key_does_not_depend_on_order() -> None:
    """Fields of the provider's own are the same in any order."""
    one: Mapping[str, JSON] = {"a": 1, "b": {"c": 2, "d": 3}}
    two: Mapping[str, JSON] = {"b": {"d": 3, "c": 2}, "a": 1}
    assert request_key(MODEL, replace(ASK, extra=one)) == request_key(MODEL, replace(ASK, extra=two))


async def test_an_answer_comes_back_whole(tmp_path: Path) -> None:
    """What was put is got, by another store too, without usage and attempts, with the run that paid and when."""
    await AnswerStore(tmp_path, 2**20).put(KEY, "run-1", ANSWER)
    again = AnswerStore(tmp_path, 2**20).get(KEY)
    assert again is not None
    assert again.cached is not None
    assert (again.cached.how, again.cached.run) == ("stored", "run-1")
    assert again.cached.at.endswith("Z")
    assert replace(again, cached=None) == replace(ANSWER, usage=Usage(), attempts=0)


async def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    """Folders are 0700, files 0600."""
    await AnswerStore(tmp_path / "answers", 2**20).put(KEY, "run-1", ANSWER)
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in (tmp_path / "answers").rglob("*")}
    assert modes == {True: 0o700, False: 0o600}
    assert (tmp_path / "answers").stat().st_mode & 0o777 == 0o700


def _file(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "other", "folder", "not json"])
async def test_a_damaged_answer_is_none(tmp_path: Path, damage: str) -> None:
    """A file that is cut, changed, of another request, or no file at all counts as not there, and is replaced."""
    store = AnswerStore(tmp_path, 2**20)
    await store.put(KEY, "run-1", ANSWER)
    path = _file(tmp_path)
    content = path.read_bytes()
    key = KEY
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        path.write_bytes(content.replace(b"stop", b"stoq"))
    elif damage == "other":
        key = KEY[:-1] + ("0" if KEY[-1] != "0" else "1")
        path.rename(path.with_name(key))
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(b"\xff\x00\n{")
    assert store.get(key) is None
    if damage != "folder":
        await store.put(key, "run-2", ANSWER)
        assert store.get(key) is not None


async def test_a_disk_that_fails_is_told_once(tmp_path: Path) -> None:
    """What can't be stored is told of once, and nothing is raised."""
    (tmp_path / "answers").write_text("a file is in the way")
    store = AnswerStore(tmp_path / "answers", 2**20)
    told: list[str] = []
    store.tell = told.append
    for _ in range(3):
        await store.put(KEY, "run-1", ANSWER)
    assert store.get(KEY) is None
    (message,) = told
    assert "answers are no longer stored" in message
    assert str(tmp_path) in message


async def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full the unfinished file is removed."""

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", full)
    store = AnswerStore(tmp_path, 2**20)
    told: list[str] = []
    store.tell = told.append
    await store.put(KEY, "run-1", ANSWER)
    assert "no room left" in told[0]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def _keys(count: int) -> list[str]:
    return [request_key(MODEL, ModelRequest(messages=(Message("user", str(number)),))) for number in range(count)]


async def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    """The folder stays within its size; what was looked up lately stays, what was not goes."""
    store = AnswerStore(tmp_path, 100_000)
    large = replace(ANSWER, text="x" * 2000)
    keys = _keys(200)
    for number, key in enumerate(keys):
        await store.put(key, "run-1", large)
        path = tmp_path / key[:2] / key
        os.utime(path, (number, number))
        assert store.get(keys[0]) is not None
        os.utime(tmp_path / keys[0][:2] / keys[0], (number + 0.5, number + 0.5))
        if number % 20 == 0:
            assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 100_000
    assert store.get(keys[1]) is None
    assert store.get(keys[-1]) is not None


async def test_what_killed_writers_left_goes(tmp_path: Path) -> None:
    """Unfinished files that no process holds are removed."""
    await AnswerStore(tmp_path, 2**20).put(KEY, "run-1", ANSWER)
    left = _file(tmp_path).with_name(f"{UNFINISHED}left")
    left.write_bytes(b"half")
    await AnswerStore(tmp_path, 2**20).put(KEY, "run-1", ANSWER)
    assert not left.exists()
    assert AnswerStore(tmp_path, 2**20).get(KEY) is not None
