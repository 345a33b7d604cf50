"""What the host keeps of a cell's outputs, and how much memory that takes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.kernel.messages import MAX_COUNT, Envelope, Header
from rlm_kernel.kernel.outputs import MAX_BYTES, MAX_OUTPUTS, MAX_WEIGHT, Outputs, weight

MIB = 1024 * 1024


def message(kind: str, content: Any) -> Envelope:
    """Return a message as it arrived; bytes are its content as they are."""
    raw = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Envelope(header=Header(msg_id="m", msg_type=kind), content=msgspec.Raw(raw))


def display(value: bytes) -> Envelope:
    """Return a display of a JSON value."""
    return message("display_data", b'{"data":{"application/json":%b},"metadata":{}}' % value)


def decoded_size(raw: bytes) -> int:
    """Return the memory that a JSON text takes as Python values."""
    tracemalloc.start()
    try:
        value = msgspec.json.decode(raw)
        assert value is not None
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


DENSE = {
    "lists": b"[" + b",".join([b"[]"] * 50_000) + b"]",
    "dicts": b"[" + b",".join([b"{}"] * 50_000) + b"]",
    "pairs": b"[" + b",".join([b'{"":1}'] * 50_000) + b"]",
    "nested pairs": b"[" + b",".join([b'{"a":{"b":{}}}'] * 50_000) + b"]",
    "keys": b"{" + b",".join(b'"%x":1' % number for number in range(50_000)) + b"}",
    "numbers": b"[" + b",".join([b"1.5"] * 50_000) + b"]",
    "texts": b"[" + b",".join([b'"ab"'] * 50_000) + b"]",
    "wide": '"🙂'.encode() + b"x" * 100_000 + b'"',
    "escaped": b'"\\ud83d\\ude42' + b"x" * 100_000 + b'"',
}


@pytest.mark.parametrize("raw", DENSE.values(), ids=DENSE)
def test_the_estimate_is_no_less_than_the_memory(raw: bytes) -> None:
    """What a JSON text takes once it is decoded is within its estimate, and the estimate is not far off."""
    taken = decoded_size(raw)
    assert taken <= weight(raw)
    assert weight(raw) <= 4 * taken


values = st.recursive(
    st.none() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=40,
)


@given(values)
def test_the_estimate_holds_for_any_value(value: Any) -> None:
    """The estimate covers values of every shape, but for a constant."""
    raw = msgspec.json.encode([value] * 20)
    assert decoded_size(raw) <= weight(raw) + 4096


def test_marks_in_texts_weigh_nothing() -> None:
    """Text full of commas, brackets and quotes is text."""
    text = msgspec.json.encode('[{"a": 1},' * 10_000)
    assert weight(text) < 2 * len(text)


@pytest.mark.parametrize("element", [b"[]", b"{}", b'{"":{}}', b"[[[[]]]]"])
def test_dense_displays_take_no_more_memory_than_the_limit(element: bytes) -> None:
    """Displays made to grow when they are decoded are cut by what they would take, and counted."""
    outputs = Outputs()
    content = display(b"[" + b",".join([element] * (900_000 // len(element))) + b"]")
    tracemalloc.start()
    kept = [output for _ in range(4) if (output := outputs.take(content)) is not None]
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 1 <= len(kept) < 4
    assert held <= MAX_WEIGHT + 8 * MIB
    assert outputs.cut == (4 - len(kept)) * len(bytes(content.content))


def test_honest_displays_fit() -> None:
    """A table of numbers as large as the guest lets a cell show is kept."""
    outputs = Outputs()
    table = msgspec.json.encode([[number * 1.25, number] for number in range(40_000)])
    assert outputs.take(display(table)) is not None
    assert outputs.cut == 0


def test_bytes_shown_and_cut_are_the_bytes_that_came() -> None:
    """Each message is kept or counted, whichever limit it meets."""
    outputs, came = Outputs(), 0
    text = message("stream", {"name": "stdout", "text": "x" * 900_000})
    for _ in range(30):
        outputs.take(text)
        came += len(bytes(text.content))
    ((kept),) = outputs.finish()
    overhead = len(bytes(text.content)) - 900_000
    assert len(str(kept["text"])) <= MAX_BYTES
    assert len(str(kept["text"])) + outputs.cut + overhead * (len(str(kept["text"])) // 900_000) == came


def test_countless_outputs_and_clears_stop_at_the_limit() -> None:
    """Neither outputs nor clears can fill a recording."""
    outputs = Outputs()
    empty = message("stream", {"name": "stdout", "text": ""})
    taken = sum(outputs.take(empty) is not None for _ in range(MAX_OUTPUTS // 2))
    cleared = sum(outputs.clear(wait=True) for _ in range(MAX_OUTPUTS))
    assert (taken, cleared) == (MAX_OUTPUTS // 2, MAX_OUTPUTS - MAX_OUTPUTS // 2)
    assert outputs.take(empty) is None


def test_claims_of_cuts_add_up_to_a_number_that_can_be_recorded() -> None:
    """A guest that claims absurd cuts can't make a number that the recording would fail at."""
    outputs = Outputs()
    for _ in range(5_000):
        outputs.add_cut(MAX_COUNT)
    assert outputs.cut == MAX_COUNT
    msgspec.json.encode(outputs.cut)


def test_late_outputs_are_not_kept() -> None:
    """After its end a cell holds nothing, whatever still comes for it."""
    outputs = Outputs()
    outputs.finish()
    assert outputs.take(message("error", {"ename": "E", "evalue": "v", "traceback": []})) is not None
    assert outputs.error is None
    assert outputs.finish() == ()
