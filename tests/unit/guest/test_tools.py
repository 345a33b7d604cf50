"""Host tools as cells see them, against a real relay and a real kernel."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rlm_kernel.tools import HostTool
from tests.unit.guest.host import GuestHost


def find(city: str, limit: int = 10, *, kind: str = "a") -> list[str]:
    """Find orders in a city."""
    return [city, str(limit), kind]


@pytest.fixture(scope="module")
def guest() -> Any:
    """A guest that has the tool; its host answers with the arguments that came."""
    with GuestHost(answer=answer) as host:
        (host.shared / "context").write_text("x")
        contexts = [{"name": "context", "kind": "str", "size": 1, "index_size": 0}]
        host.tell("bind", source="file", contexts=contexts, tools=[HostTool.of(find).announced()])
        host.until("kernel_ready")
        yield host


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments, or fail."""
    assert (request["kind"], request["tool"]) == ("tool", "find")
    if "fail" in request["arguments"]:
        return {"error": {"code": "failed", "message": "no such city"}}
    if "deep" in request["arguments"]:
        return {"text": "[" * 100_000 + "]" * 100_000}
    return {"text": json.dumps(json.loads(request["arguments"]))}


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        ("find('Lima')", {"city": "Lima"}),
        ("find('Lima', 5, kind='b')", {"city": "Lima", "limit": 5, "kind": "b"}),
        ("await afind(city={'größe': [1, None]})", {"city": {"größe": [1, None]}}),
    ],
)
def test_a_call_is_as_one_of_a_function(guest: GuestHost, call: str, sent: dict[str, Any]) -> None:
    """Arguments go by their names; what has a default and is not given stays out. The result is a value."""
    assert guest.run(f"({call}) == {sent!r}").result == "True"


@pytest.mark.parametrize(
    ("call", "ename", "says"),
    [
        ("find()", "TypeError", "missing a required argument: 'city'"),
        ("find('Lima', 5, 'b')", "TypeError", "too many positional"),
        ("find('Lima', no=1)", "TypeError", "unexpected keyword argument 'no'"),
        ("find(object())", "TypeError", "find takes JSON values: "),
        ("find('fail')", "ToolError", "no such city"),
        ("await afind('fail')", "ToolError", "no such city"),
        ("find('x' * 9_000_000)", "ValueError", "bytes, at most"),
        ("find('deep')", "RecursionError", ""),
    ],
)
def test_what_goes_wrong_is_raised_in_the_cell(guest: GuestHost, call: str, ename: str, says: str) -> None:
    """With the class that says what kind of thing it is; the kernel lives on."""
    reply = guest.run(call).reply
    assert (reply["status"], reply["ename"]) == ("error", ename)
    assert says in reply["evalue"]
    assert guest.run("find('Lima')['city']").result == "'Lima'"


def test_it_tells_what_it_is(guest: GuestHost) -> None:
    """Signature, docstring and `?` are those of the host's function, and it is none of the cell's own variables."""
    shown = "(city: str, limit: int = 10, *, kind: str = 'a') -> list[str]"
    assert guest.run("import inspect; str(inspect.signature(find))").result == repr(shown)
    assert guest.run("find").result == f"<tool find{shown}>"
    assert guest.run("find.__doc__").result == "'Find orders in a city.'"
    assert "Find orders in a city." in guest.run("find?").text
    assert "find" not in guest.run("1").end["names"]
    assert "ToolError" not in guest.run("1").end["names"]


def test_many_at_once(guest: GuestHost) -> None:
    """Threads and tasks call it side by side."""
    code = """import asyncio
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool: a = [r["limit"] for r in pool.map(lambda n: find("x", n), range(50))]
b = [r["limit"] for r in await asyncio.gather(*(afind("x", n) for n in range(50)))]
a == b == list(range(50))"""
    assert guest.run(code).result == "True"
