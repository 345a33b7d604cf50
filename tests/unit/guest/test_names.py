"""Promises of the injected names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.guest.host import GuestHost


def answer(request: dict[str, Any]) -> dict[str, Any] | None:
    """Answer as the prompt asks: silence, an error by its code, or an echo."""
    prompt = request["prompt"]
    if prompt == "silence":
        return None
    if prompt.startswith("fail "):
        return {"error": {"code": prompt[5:], "message": f"no: {prompt}"}}
    if prompt == "note":
        return {"text": "noted", "note": "by llm_query"}
    return {"text": f"{request['model']}: {prompt}"}


@pytest.fixture(scope="module")
def guest() -> Iterator[GuestHost]:
    """A guest whose sub-calls are answered by `answer`."""
    with GuestHost(answer=answer) as host:
        host.bind()
        yield host


@pytest.fixture(autouse=True)
def fewer_requests(guest: GuestHost) -> None:
    """Forget the requests of earlier tests."""
    guest.requests.clear()


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("llm_query('a')", "'None: a'"),
        ("llm_query('ü🙂', model='m')", "'m: ü🙂'"),
        ("llm_query_batched(['a', 'b', 'c'], 'm')", "['m: a', 'm: b', 'm: c']"),
        ("llm_query_batched([])", "[]"),
        ("await allm_query('a')", "'None: a'"),
        ("await allm_query_batched(['a', 'b'])", "['None: a', 'None: b']"),
        ("import asyncio; (await asyncio.gather(allm_query('a'), allm_query('b')))[1]", "'None: b'"),
        ("import asyncio, threading; l = []\ndef f(): l.append(asyncio.run(allm_query('a')))\n"
         "t = threading.Thread(target=f); t.start(); t.join(); l", "['None: a']"),
    ],
)  # fmt: skip
def test_questions_are_answered(guest: GuestHost, code: str, result: str) -> None:
    """Single, batched and awaitable forms return the answers in order."""
    assert guest.run(code).result == result


@pytest.mark.parametrize(
    ("code", "result", "asked"),
    [
        ("rlm_query('a')", "'None: a'", [{}]),
        ("rlm_query('a', 'm', context={'k': [1, None]})", "'m: a'", [{"context": {"k": [1, None]}}]),
        ("rlm_query_batched(['a', 'b'])", "['None: a', 'None: b']", [{}, {}]),
        ("rlm_query_batched(['a', 'b'], contexts=['c', None])", "['None: a', 'None: b']", [{"context": "c"}, {}]),
        ("await arlm_query('a', context='c')", "'None: a'", [{"context": "c"}]),
        ("await arlm_query_batched(['a'], contexts=[[]])", "['None: a']", [{"context": []}]),
    ],
)
def test_sessions_are_asked(guest: GuestHost, code: str, result: str, asked: list[dict[str, Any]]) -> None:
    """A question to a session names its kind and carries its context, and nothing else."""
    assert guest.run(code).result == result
    for request, more in zip(sorted(guest.requests, key=lambda request: request["id"]), asked, strict=True):
        assert set(request) == {"kind", "id", "prompt", "model", *more}
        assert request["kind"] == "rlm"
        assert {name: request[name] for name in more} == more


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("rlm_query('a', context={1, 2})", "TypeError: a context must be a str or a JSON value"),
        ("rlm_query('a', context=float('nan'))", "TypeError: a context must be a str or a JSON value"),
        ("rlm_query('a', context='x' * 9_000_000)", "ValueError: the call has 9,000,"),
        ("c = []\nfor _ in range(200): c = [c]\nrlm_query('a', context=c)", "ValueError: the context has lists"),
        ("rlm_query_batched(['a', 'b'], contexts=['c'])", "ValueError: contexts must be a list with one context"),
        ("rlm_query(' ')", "ValueError: the prompt is empty"),
    ],
)
def test_a_context_that_cannot_go_is_a_clear_error(guest: GuestHost, code: str, error: str) -> None:
    """What can't be sent raises before anything is."""
    reply = guest.run(code).reply
    assert f"{reply['ename']}: {reply['evalue']}".startswith(error)
    assert guest.requests == []


def test_what_the_host_says_of_an_answer_is_printed(guest: GuestHost) -> None:
    """A note beside answers stands in the cell's output, once for a batch."""
    cell = guest.run("rlm_query_batched(['note', 'note', 'a'])")
    assert cell.text == "note: by llm_query\n"
    assert cell.result == "['noted', 'noted', 'None: a']"


def test_many_threads_ask_at_once(guest: GuestHost) -> None:
    """Two hundred calls from forty threads each get their own answer."""
    cell = guest.run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(40) as pool:\n"
        "    found = list(pool.map(llm_query, [str(i) for i in range(200)]))\n"
        "found == [f'None: {i}' for i in range(200)]"
    )
    assert cell.result == "True"
    assert len({request["id"] for request in guest.requests}) == 200


def test_answers_may_come_in_any_order(guest: GuestHost) -> None:
    """A batch keeps its order when the answers do not."""
    cell = guest.request("llm_query_batched(['silence'] * 3)")
    deadline = time.monotonic() + 10
    while len(guest.requests) < 3:
        guest.step(deadline)
    for number, request in reversed(list(enumerate(guest.requests))):
        guest.reply(request["id"], text=str(number))
    assert guest.finish(cell).result == "['0', '1', '2']"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("failed", "LLMQueryError"),
        ("refused", "LLMQueryError"),
        ("a code of tomorrow", "LLMQueryError"),
        ("budget_exceeded", "BudgetExceeded"),
        ("depth_exceeded", "DepthExceeded"),
        ("model_unavailable", "ModelUnavailable"),
    ],
)
def test_each_failure_has_its_type(guest: GuestHost, code: str, name: str) -> None:
    """An error code becomes an exception of its class with the host's words, caught as `LLMQueryError` too."""
    reply = guest.run(f"llm_query('fail {code}')").reply
    assert (reply["ename"], reply["evalue"]) == (name, f"no: fail {code}")
    caught = guest.run(f"try: await allm_query('fail {code}')\nexcept LLMQueryError as e: print(type(e) is {name})")
    assert caught.text == "True\n"


def test_a_failed_item_raises_after_all_have_finished(guest: GuestHost) -> None:
    """One failure raises when every item is done, or takes its item's place as an exception object."""
    prompts = "['a', 'fail failed', 'b']"
    for call in ("llm_query_batched", "await allm_query_batched"):
        guest.requests.clear()
        assert guest.run(f"{call}({prompts})").reply["ename"] == "LLMQueryError"
        assert len(guest.requests) == 3
        result = guest.run(f"{call}({prompts}, return_exceptions=True)").result
        assert result == "['None: a', __main__.LLMQueryError('no: fail failed'), 'None: b']"


@pytest.mark.parametrize(
    ("code", "ename", "says"),
    [
        ("llm_query(17)", "TypeError", "not int"),
        ("llm_query([{'role': 'user'}])", "TypeError", "not list"),
        ("llm_query('  ')", "ValueError", "empty"),
        ("llm_query('a', model=3)", "TypeError", "model must be"),
        ("llm_query('x' * 9_000_000)", "ValueError", "at most 8,388,608"),
        ("llm_query('\\ud800')", "ValueError", "UTF-8"),
        ("llm_query_batched('abc')", "TypeError", "not one str"),
        ("llm_query_batched(['a', None])", "TypeError", "not NoneType"),
        ("FINAL_VAR(17)", "TypeError", "FINAL takes a value"),
    ],
)
def test_a_wrong_call_is_explained(guest: GuestHost, code: str, ename: str, says: str) -> None:
    """A call that can't be sent raises in the cell, and nothing reaches the host."""
    reply = guest.run(code).reply
    assert reply["ename"] == ename
    assert says in reply["evalue"]
    assert guest.requests == []


@pytest.mark.parametrize(
    "code",
    ["llm_query('silence')", "llm_query_batched(['silence'] * 50)", "await allm_query('silence')"],
)
def test_an_interrupt_gets_out_of_a_call(guest: GuestHost, code: str) -> None:
    """A call that is never answered ends with an interrupt; a late answer harms nothing; the next call works."""
    cell = guest.request(code)
    deadline = time.monotonic() + 10
    while not guest.requests:
        guest.step(deadline)
    guest.tell("interrupt")
    assert guest.finish(cell, 5).reply["ename"] in ("KeyboardInterrupt", "CancelledError")
    guest.reply(guest.requests[0]["id"], text="too late")
    assert guest.run("llm_query('next')").result == "'None: next'"


def test_a_child_process_is_told_to_use_threads(guest: GuestHost) -> None:
    """A forked process can't ask, and is told so instead of waiting for ever."""
    cell = guest.run(
        "import os\nif (pid := os.fork()) == 0:\n"
        "    try: llm_query('a')\n    except LLMQueryError as e: os._exit(7 if 'threads' in str(e) else 1)\n"
        "    os._exit(2)\nos.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
    )
    assert cell.result == "7"


def test_an_old_kernels_answer_is_not_taken_for_the_new_ones() -> None:
    """Numbers are never used twice across a restart."""
    with GuestHost(answer=lambda request: None) as guest:
        guest.bind()
        guest.request("llm_query('old')")
        deadline = time.monotonic() + 10
        while not guest.requests:
            guest.step(deadline)
        guest.tell("restart")
        guest.until("kernel_ready")
        cell = guest.request("llm_query('new')")
        while len(guest.requests) < 2:
            guest.step(deadline)
        guest.reply(guest.requests[0]["id"], text="old answer")
        guest.reply(guest.requests[1]["id"], text="new answer")
        assert guest.finish(cell).result == "'new answer'"


@pytest.mark.parametrize(
    ("code", "value", "source"),
    [
        ("FINAL('text')", "text", "FINAL"),
        ("FINAL({'a': [1, None, True]})", {"a": [1, None, True]}, "FINAL"),
        ("FINAL(1); FINAL(2)", 2, "FINAL"),
        ("FINAL(None)", None, "FINAL"),
        ("FINAL({1, })", "{1}", "FINAL"),
        ("FINAL(float('inf'))", "inf", "FINAL"),
        ("found = [1]; FINAL_VAR('found')", [1], "FINAL_VAR"),
        ("""found = [1]; FINAL_VAR(" 'found' ")""", [1], "FINAL_VAR"),
        ("FINAL('a'); v = 'b'; FINAL_VAR('v')", "b", "FINAL_VAR"),
        ("answer['content'] = 5; answer['ready'] = True", 5, "answer"),
        ("answer = {'content': 'x', 'ready': True}", "x", "answer"),
        ("import threading; t = threading.Thread(target=FINAL, args=('t',)); t.start(); t.join()", "t", "FINAL"),
        ("import asyncio; await asyncio.sleep(0); FINAL('a')", "a", "FINAL"),
        ("FINAL('kept'); FINAL = None", "kept", "FINAL"),
    ],
)
def test_an_answer_reaches_the_host(code: str, value: Any, source: str, guest: GuestHost) -> None:
    """Every convention gives its value and says which it was; the last FINAL of a cell wins."""
    assert guest.run(code).end["final"] == {"value": value, "source": source}
    guest.run("from rlm_guest.names import FINAL")
    assert guest.run("1").end["final"] is None


def test_a_cell_that_raises_gives_no_answer(guest: GuestHost) -> None:
    """An answer is dropped with the cell that raised, and does not come back in the next."""
    for code in ("FINAL('a')", "answer = {'content': 'a', 'ready': True}"):
        assert guest.run(f"{code}; 1/0").reply["user_expressions"] == {}
        assert guest.run("2").end["final"] is None


def test_a_huge_answer_is_cut_and_marked(guest: GuestHost) -> None:
    """An answer crosses with at most a mebibyte."""
    for code in ("FINAL('x' * 5_000_000)", "FINAL(['x' * 5_000_000])"):
        value = guest.run(code).end["final"]["value"]
        assert len(value) <= 1024 * 1024
        assert "characters cut" in value


def test_a_wrong_variable_name_is_explained(guest: GuestHost) -> None:
    """FINAL_VAR names what is close, and an answer that can't be written out raises in the cell."""
    guest.run("final_answer = 1")
    assert "did you mean final_answer?" in guest.run("FINAL_VAR('final_anwser')").reply["evalue"]
    broken = "class Broken:\n    def __str__(self): raise RuntimeError('no text')\nFINAL(Broken())"
    assert guest.run(broken).reply["evalue"] == "no text"


def test_the_users_variables_are_described(guest: GuestHost) -> None:
    """SHOW_VARS tells type and size of what cells made, not of what they were given."""
    guest.run("words = ['a'] * 1234\ntext = 'b' * 5000\nnumber = 7")
    shown = guest.run("import json; print(json.dumps(SHOW_VARS()))").text
    assert '"words": "list, 1,234 items"' in shown
    assert '"text": "str, 5,000 characters"' in shown
    assert '"number": "int, 7"' in shown
    assert "llm_query" not in shown
