"""What cells read that is not pinned, by the words of their code."""

from __future__ import annotations

import time

import pytest

from rlm_kernel.recording.compare.words import ENTROPY, Reading

SEEDED = [word for words in ENTROPY.values() for word in words]


@pytest.mark.parametrize("word", SEEDED)
def test_every_word_counts(word: str) -> None:
    """A cell that has it reads it, whatever stands around it."""
    assert word.rstrip("(") in Reading(pinned=True).take(1, f"x = a.{word}(1)" if word[0] not in "%/" else f" {word} x")


@pytest.mark.parametrize(
    "code", ["", "x = random.random()", "uuids = 1; my_uuid = 2", "valid(x)", "hash('a')", "timeit2"]
)
def test_other_words_do_not(code: str) -> None:
    """A part of a word is none, and what has a seed is the same again."""
    assert Reading(pinned=True).take(1, code) == []


@pytest.mark.parametrize("code", ["random.random()", "hash('a')", "set('ab')"])
def test_without_a_seed(code: str) -> None:
    """Chance and hashes count too where the recorded session had no seed."""
    assert Reading(pinned=False).take(1, code) != []


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("import uuid\nname = uuid.uuid4()", "print(name)"),
        ("a, b = uuid4(), 1", "b"),
        ("def make():\n    return uuid4()", "make()"),
        ("seen.append(uuid4())", "len(seen)"),
        ("for n in [uuid4()]:\n    pass", "n"),
        ("with open(f'{uuid4()}') as file:\n    pass", "file.name"),
        ("if (u := uuid4()):\n    pass", "u"),
        ("box['x'] = uuid4()", "box"),
    ],
)
def test_names_carry_it_on(first: str, then: str) -> None:
    """A later cell that speaks of a name that such a cell bound has it too, and so has one after that."""
    reading = Reading(pinned=True)
    reading.take(1, first)
    assert reading.take(2, f"more = [{then}]")[0].startswith("cell 1: ")
    assert reading.take(3, "print(more)")[0].startswith("cell 1: ")


def test_other_cells_do_not_have_it() -> None:
    """Nor do what was imported, the context and Python's own names carry anything."""
    reading = Reading(pinned=True)
    reading.take(
        1, "import json, uuid\nprint(json.dumps(str(uuid.uuid4())), len(context.split()))\nfor word in words: pass"
    )
    assert reading.take(2, "x = json.loads(context.strip())\nprint(len(x))") == []


def test_what_else_is_not_pinned() -> None:
    """Other reasons are carried on like words."""
    reading = Reading(pinned=True)
    assert reading.take(1, "n = 1", ["the moment of its end"]) == ["the moment of its end"]
    assert reading.take(2, "n") == ["cell 1: the moment of its end"]


def test_threads() -> None:
    """Code that speaks of threads is told from other code, from then on."""
    reading = Reading(pinned=True)
    reading.take(1, "print(threads)")
    assert not reading.parallel
    reading.take(2, "from concurrent.futures import ThreadPoolExecutor")
    reading.take(3, "1")
    assert reading.parallel


@pytest.mark.parametrize(
    "code",
    [
        "a" * 400_000,
        "for" + " " * 400_000,
        "for " + "a " * 200_000,
        "a." * 200_000,
        "\n".join("abcdefgh"[n % 8] * 7 + f"{n} = uuid4()" for n in range(20_000)),
        "((((" * 400_000,
        "a" + " " * 400_000 + "= uuid4()",
    ],
)
def test_crafted_code(code: str) -> None:
    """Code is never parsed, and no code takes more than seconds to look through."""
    began = time.monotonic()
    Reading(pinned=True).take(1, "uuid4()\n" + code)
    assert time.monotonic() - began < 10
