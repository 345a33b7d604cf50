"""What may differ when a cell runs again, and nothing else."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.recording.compare.normalise import NOWHERE, RULES, Surroundings, normalise, struck

NOON = 1795262400.0  # 2026-11-21 12:00 UTC
LATER = NOON + 40 * 86400 + 5000.5
THEN = Surroundings(spans=[(NOON, NOON + 10)], own=["44930", "0fa088bf554b"])
NOW = Surroundings(spans=[(NOON, NOON + 10), (LATER, LATER + 10)], own=["41007", "ab9289a8d192"])

PAIRS = {
    "overwritten": [(" 10%|#  \r 50%|###\rdone\n", "done\r\n"), ("a\rb", "c\rd\rb")],
    "addresses": [
        ("<object at 0x7f293c4e55d0>", "<object at 0x7fa1>"),
        ("Thread 0x00007f29 (most recent call first)", "Thread 0x00007fff (most recent call first)"),
        ("<weakref at 0x7f01; to 'A' at 0x7f02>", "<weakref at 0x8f01; to 'A' at 0x8f02>"),
    ],
    "thread ids": [("<Thread(Thread-5, started daemon 140234)>", "<Thread(Thread-5, started daemon 139999999)>")],
    "session ids": [("uid=44930(rlm)", "uid=41007(rlm)"), ("/x/0fa088bf554b/y", "/x/ab9289a8d192/y")],
    "process ids": [("worker pid=31 done", "worker pid=4711 done"), ("PID: 7", "PID: 8")],
    "temporary names": [
        ("/tmp/tmpab12_x9z/file", "/tmp/tmpzzzzzzzz/file"),
        ("/tmp/ipykernel_7/12.py:1: Warning", "/tmp/ipykernel_31/12.py:1: Warning"),
    ],
    "execution counts": [("Cell In[3], line 1", "Cell In[12], line 1"), ("Out[1]", "Out[2]"), ("In [1]:", "In [9]:")],
    "times": [
        ("2026-11-21", "2026-12-31"),
        ("2026-11-21T12:00:03.123456+00:00", "2026-12-31T13:23:25Z"),
        ("at 2026-11-20 23:59:59,", "at 2027-01-01 00:00:01,"),
        ("Sat Nov 21 12:00:01 2026", "Thu Dec 31 13:23:20 2026"),
        ("Sat, 21 Nov 2026 12:00:01 GMT", "Thu, 31 Dec 2026 13:23:20 GMT"),
        ("November 21, 2026", "December 31, 2026"),
        ("21/11/2026", "31/12/2026"),
        ("run_20261121T120000Z.log", "run_20261231T132320Z.log"),
        ("12:00:07.5", "13:23:21"),
        ("1795262401.25", "1798723402.5"),
        ("1795262401250", "1798723402500000000"),
    ],
    "durations": [
        ("took 1.25 s", "took 0.75 s"),
        ("2 ms", "311 µs"),
        ("Wall time: 1min 3s", "Wall time: 2min 59.5 s"),
        ("12.3 µs ± 1.2 ns per loop (mean ± std. dev. of 7 runs, 10,000 loops each)",
         "9 µs ± 3 ns per loop (mean ± std. dev. of 7 runs, 100,000 loops each)"),
        ("0:00:01.000123", "0:00:00.999999"),
        ("[00:01<00:09, 3.2it/s]", "[00:02<?, ?it/s]"),
    ],
    "cut sizes": [
        ("[… 1024 bytes of output cut …]", "[… 9 bytes of output cut …]"),
        ("[… image/png of 77 bytes, a/b of 8 bytes cut …]", "[… image/png of 78 bytes, a/b of 9 bytes cut …]"),
    ],
    "set order": [
        ("{'b', 'a'}", "{'a', 'b'}"),
        ("frozenset({(2, {4, 3}), 'x, y'}) end", "frozenset({'x, y', (2, {3, 4})}) end"),
        ("[{'k': {2, 1}}]", "[{'k': {1, 2}}]"),
        ('{"it\'s", \'b\'}', '{\'b\', "it\'s"}'),
    ],
}  # fmt: skip

SAME = [
    ("2024-01-05", "2024-01-06"),
    ("23:00:00", "23:00:01"),
    ("1700000000", "1700000001"),
    ("0x7f293c4e55d0", "0x7f293c4e55d1"),
    ("3 seconds", "4 seconds"),
    ("3.25", "3.26"),
    ("44930.5", "41007.5"),
    ("uid 44931", "uid 41008"),
    ("{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}"),
    ("['b', 'a']", "['a', 'b']"),
    ("{'a', 'b'}", "{'a', 'c'}"),
    ("{'a, b'}", "{'b, a'}"),
    ("{it's, b", "{b, it's"),
    ("tmpabc", "tmpabd"),
    ("In 7", "In 8"),
    ("rapid 12", "rapid 13"),
]


@pytest.mark.parametrize(("name", "then", "now"), [(name, *pair) for name, pairs in PAIRS.items() for pair in pairs])
def test_each_rule(name: str, then: str, now: str) -> None:
    """A rule makes equal what it names, alone of all, and in the text around it nothing is lost."""
    sides = normalise(f"begin\n{then}\nend", THEN), normalise(f"begin\n{now}\nend", NOW)
    assert sides[0].text == sides[1].text
    assert struck(*sides) == [name]
    assert normalise(f"begin\n{then}\nend", THEN).text != normalise(f"begin\n{now}\nEND", NOW).text


def test_every_rule_has_examples() -> None:
    """The examples above are of all rules."""
    assert list(PAIRS) == [rule.name for rule in RULES]


@pytest.mark.parametrize(("then", "now"), SAME)
def test_what_no_rule_names(then: str, now: str) -> None:
    """What only looks like something that may differ stays different."""
    assert normalise(then, THEN).text != normalise(now, NOW).text


_PIECES = st.sampled_from([side for pairs in PAIRS.values() for pair in pairs for side in pair] + [*"{}(),:'\"\n [\r"])
_TEXTS = st.one_of(
    st.text(alphabet="{}(),:'\"ab1 .\n\r"), st.lists(st.one_of(_PIECES, st.text()), max_size=12).map("".join)
)


@given(_TEXTS)
def test_normalising_is_idempotent(text: str) -> None:
    """A text that was normalised stays as it is."""
    once = normalise(text, THEN).text
    assert normalise(once, THEN).text == once


@given(st.text(alphabet="abcdexyz ,.()[]=+", max_size=60), st.data())
def test_a_changed_value_stays(text: str, data: st.DataObject) -> None:
    """Where no rule has anything to say, another letter or digit is another text."""
    at = data.draw(st.integers(0, len(text)))
    one, other = data.draw(st.permutations("qrst68"))[:2]
    assert normalise(text[:at] + one + text[at:], THEN).text != normalise(text[:at] + other + text[at:], NOW).text


@given(st.text(), st.text())
def test_equal_texts_stay_equal(text: str, more: str) -> None:
    """No rule tells two equal texts apart, and none is said to have struck."""
    one, other = normalise(text + more, THEN), normalise(text + more, THEN)
    assert one.text == other.text
    assert struck(one, other) == []


def test_without_surroundings() -> None:
    """Where nothing is known of the run no date is taken for one of its own."""
    assert normalise("2026-11-21 44930", NOWHERE).text == "2026-11-21 44930"


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -1e300, 1e300, 1e18])
def test_times_that_are_none(at: float) -> None:
    """Instants of a crafted recording that no calendar has are passed over; wide spans are bounded."""
    assert normalise("2026", Surroundings(spans=[(at, at), (0.0, at), (0.0, 1e12)])).text


_CRAFTED = {
    "open quotes": "{'" + r"\'{" * 30_000,
    "open sets": "{" * 100_000,
    "deep sets": "{1,{2," * 9 + "x" + "}}" * 9 + "{[(" * 30_000,
    "one long word": "a" * 400_000,
    "digits": "1" * 400_000,
    "spaces": " " * 400_000,
    "durations": "1ms " * 100_000,
    "dates": "2026-11-21T12:" * 28_500,
    "commas": "1,234,567,890" * 30_000,
    "colons": "12:" * 130_000,
    "overwritten": "\r" * 400_000,
    "marks": "[… 1 " + "a " * 190_000,
    "too long": "{2, 1}" * 3_000_000,
}


@pytest.mark.parametrize("name", _CRAFTED)
def test_crafted_texts_take_linear_time(name: str) -> None:
    """None takes seconds; what would take time by the square of the length would take minutes."""
    began = time.monotonic()
    normalise(_CRAFTED[name], NOW)
    assert time.monotonic() - began < 10


def test_random_sets() -> None:
    """Sets of all kinds of elements, printed in any order, are the same."""
    shuffled = random.Random(5)
    for _ in range(50):
        elements = [
            repr(shuffled.choice([1, 2.5, "a,b", "it's", ("x", 1), frozenset("pq"), b"{", None])) for _ in "1234"
        ]
        one, other = (", ".join(shuffled.sample(elements, 4)) for _ in "12")
        assert normalise(f"{{{one}}}", THEN).text == normalise(f"{{{other}}}", THEN).text


def test_placeholders_name_their_rule() -> None:
    """What stands in a text after normalising says which rule struck."""
    for name, pairs in PAIRS.items():
        for then, _ in pairs:
            assert set(re.findall(r"⟦(.*?)⟧", normalise(then, THEN).text)) <= {name}


def test_what_a_rule_makes_room_for() -> None:
    """Two things that stand side by side are both taken out."""
    assert normalise("12:00:07.5PID: 7", THEN).text == "⟦times⟧PID: ⟦process ids⟧"
