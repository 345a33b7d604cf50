"""Several contexts by name: which names can be, and how they get into a session's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.errors import ConfigError, ContextNotFound
from rlm_kernel.guest import names
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.given import MAX_CONTEXTS, Contexts
from rlm_kernel.sandbox.stored import link_into
from rlm_kernel.sandbox.variables import GUEST_NAMES


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../../etc/passwd", "no name in Python"),
        ("a/b", "no name in Python"),
        ("a\0b", "no name in Python"),
        ("", "no name in Python"),
        ("class", "no name in Python"),
        ("1st", "no name in Python"),
        ("ﬁle", "no name in Python"),
        ("_hidden", "the kernel's own"),
        ("__builtins__", "the kernel's own"),
        ("print", "has something of that name"),
        ("context", "has something of that name"),
        ("llm_query", "has something of that name"),
        ("In", "has something of that name"),
        ("x" * 65, "over 64 characters"),
        (7, "no text"),
    ],
)
def test_a_name_that_can_not_be(name: Any, why: str) -> None:
    """A name is an identifier that shadows nothing; the message names it and says why it can't be."""
    with pytest.raises(ConfigError, match=why) as caught:
        Contexts({name: "text"})
    assert repr(str(name)[:64])[1:-1] in str(caught.value)


def test_how_many_there_can_be() -> None:
    """None is too few, and there is an upper limit."""
    for count in (0, MAX_CONTEXTS + 1):
        with pytest.raises(ConfigError, match=f"not {count}"):
            Contexts({f"c{number}": "" for number in range(count)})
    assert list(Contexts({"größe": "a"}, report="b")) == ["größe", "report"]


def test_every_name_of_the_kernel_is_known_to_the_host() -> None:
    """No context can take the place of a function or an error that cells have: a new one belongs into the list."""
    assert {function.__name__ for function in names._FUNCTIONS} <= GUEST_NAMES
    assert {error.__name__ for error in names._ERRORS} <= GUEST_NAMES


async def test_each_is_stored_once_and_linked_under_a_number(store: ContextStore, tmp_path: Path) -> None:
    """No given name becomes part of a path, and equal contexts share one file."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("x")
    (tmp_path / "session").mkdir()
    stored = await store.put_all(Contexts(one="same", docs=tmp_path / "docs", two="same"))
    assert [part.name for part in stored.parts] == ["one", "docs", "two"]
    link_into(stored, tmp_path / "session")
    linked = {path.name: path.read_text() for path in (tmp_path / "session").iterdir()}
    assert linked == {
        "context": "same",
        "context1": "x",
        "context1.json": '{"files":[["a.txt",0,1]]}',
        "context2": "same",
    }
    assert (tmp_path / "session" / "context").samefile(tmp_path / "session" / "context2")


async def test_one_that_fails_fails_all(store: ContextStore, tmp_path: Path) -> None:
    """The error is the one that it would be alone."""
    with pytest.raises(ContextNotFound):
        await store.put_all(Contexts(one="fine", two=tmp_path / "nothing"))
