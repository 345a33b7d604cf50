"""Hostile values: answers, displays, results and errors whose making, size or shape is the attack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel.controller.shown import shown
from rlm_kernel.events import AnyEvent, CellFinished, CellOutput
from rlm_kernel.recording import RecordingLog, Redaction, hooks_of, new_run_id, read_events
from rlm_kernel.session import Session
from tests.attacks.conftest import assert_usable, memory_bound, run
from tests.docker.conftest import MIB, OpenSession
from tests.support.sinks import Events

NESTED = "x = []\nfor _ in range({depth}): x = [x]\n"

FINALS = [
    "FINAL(float('nan'))",
    "FINAL([float('inf'), -float('inf')])",
    "FINAL(10**4000)",
    "FINAL({'a': 2**64, 'b': -2**70})",
    "FINAL(1e308 * 10)",
    "FINAL('\\ud800')",
    "FINAL({'\\ud800': '\\udfff'})",
    "FINAL('\\x00\\x1b[2J\\u202e')",
    "FINAL({1: 2, None: 3, (1, 2): 4})",
    "x = []; x.append(x); FINAL(x)",
    "FINAL(b'\\xff')",
    "FINAL('')",
    "FINAL(None)",
    "class A(str):\n    def __len__(self): return -1\nFINAL(A('a'))",
    "class A(dict):\n    def items(self): return [('k', self)]\nFINAL(A())",
    "answer['content'] = float('nan'); answer['ready'] = True",
    "answer = {'ready': True}",
    "class A(dict):\n    def get(self, *a): raise SystemExit\nanswer = A()",
    "class A(dict):\n    def get(self, *a): 1 / 0\nanswer = A(); FINAL(1)",
]
SHOWN = [
    "display({'application/json': float('nan')}, raw=True)",
    "display({'application/json': [2**70, 1e999]}, raw=True)",
    "display({'text/plain': '\\ud800', '\\udc80': '\\udcff'}, raw=True)",
    "display({'text/plain': '\\udcff'}, metadata={'\\udcff': '\\udcff'}, raw=True)",
    "display({'text/plain': 1, 'image/png': None, 'text/html': ['a', {}]}, raw=True)",
    "display({'a/b': {'k' * 10**6: 1}}, raw=True)",
    "display({'x' * 10**6: 'y'}, raw=True)",
    "display({'text/plain': 'x'}, metadata={'k': 'x' * 10**7}, raw=True)",
    "display({'text/plain': 'x'}, transient={'k': 'x' * 10**7}, raw=True)",
    "print('\\udcff\\ud800')",
    "import sys; sys.stdout.buffer.write(b'\\xff') if hasattr(sys.stdout, 'buffer') else None",
    "import os; os.write(1, bytes(range(256)) * 100)",
    "raise Exception('\\udcff' * 10**6)",
    "type('\\u202e', (Exception,), {})()\nraise type('E' * 10**6, (Exception,), {})('x')",
    "class M(type):\n    __name__ = '\\udcff'\nclass E(Exception, metaclass=M): pass\nraise E('x')",
    "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
    "class E(Exception):\n    def __str__(self): return 1\nraise E",
    "raise ExceptionGroup('g', [ValueError(i) for i in range(100_000)])",
    "class R:\n    def __repr__(self): 1 / 0\nR()",
    "class R:\n    def __repr__(self): return 1\nR()",
    "class R:\n    def __repr__(self): raise SystemExit\nR()",
    "class R:\n    def __repr__(self): raise KeyboardInterrupt\nR()",
    "class R:\n    def _repr_mimebundle_(self, **_): return {'text/plain': self, 1: 2}\nR()",
    "class R:\n    def _repr_mimebundle_(self, **_): return [1]\nR()",
    "class R:\n    def _repr_html_(self): return '<script>' * 10**6\nR()",
    "class R:\n    def __getattr__(self, name): return self\n    def __call__(self, *a, **k): return self\nR()",
]
KEY = "sk-" + "a1" * 20
STRUCK = [
    *(f"print({piece!r} * ({MIB} // {len(piece)}))" for piece in ("sk-", "eyJaaaaaaaaaa.", "-----BEGIN ", "\\nsk-")),
    f"FINAL({{f'{KEY}{{n}}': {KEY!r} for n in range(20_000)}})",
    NESTED.format(depth=95) + f"FINAL([x, {KEY!r}])",
    f"display({{'application/json': [{{{KEY!r}: 1, '[redacted]': 2, '[redacted] 2': 3}}]}}, raw=True)",
    f"display({{{KEY!r}: 1, 'text/plain': {KEY!r}}}, metadata={{{KEY!r}: {KEY!r}}}, raw=True)",
    f"raise type({KEY!r}, (Exception,), {{}})({KEY!r})",
]


class Recorded(Events):
    """Keeps events, each after it was recorded as a run records it."""

    def __init__(self, log: RecordingLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Record and keep `event`."""
        self._log.emit(event)
        super().emit(event, node)


@pytest.fixture
def log(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RecordingLog]:
    """A recording, with what a test names kept out of it."""
    named = getattr(request, "param", None)
    redaction = None if named is None else Redaction(hooks_of(named))
    with RecordingLog(tmp_path / "state", new_run_id(), redaction=redaction) as log:
        yield log


@pytest.fixture
def events(log: RecordingLog) -> Events:
    """What happened, recorded."""
    return Recorded(log)


async def survives(session: Session, cells: list[str], log: RecordingLog) -> None:
    """Run cells; each has a result that can be shown and was recorded, and the session is usable afterwards."""
    for code in cells:
        result = await run(session, code)
        assert result.status in ("ok", "error"), (code, result)
        shown(result, 10_000).encode()
    await assert_usable(session)
    recorded = [record.event for record in read_events(log.path)]
    assert sum(isinstance(event, CellFinished) for event in recorded) == len(cells) + 2


async def test_hostile_answers(open_test_session: OpenSession, log: RecordingLog) -> None:
    """Whatever is given as an answer, the cell has a result, the recording takes it, and the session goes on."""
    async with open_test_session() as session:
        await survives(session, FINALS, log)


async def test_hostile_outputs(open_test_session: OpenSession, log: RecordingLog) -> None:
    """Whatever is shown or raised, the cell has a result, the recording takes it, and the session goes on."""
    async with open_test_session(carrier="attach") as session:
        await survives(session, SHOWN, log)


@pytest.mark.parametrize("log", ["keys"], indirect=True)
async def test_hostile_texts_pass_redaction(open_test_session: OpenSession, log: RecordingLog) -> None:
    """What a cell shows and gives can neither hold up redaction nor break a record by what is taken out of it."""
    async with open_test_session() as session:
        started = time.process_time()
        await survives(session, STRUCK, log)
        assert time.process_time() - started < 20
    assert KEY.encode() not in log.path.read_bytes()


async def test_nesting_of_every_depth(open_test_session: OpenSession, log: RecordingLog) -> None:
    """Deep nesting in answers and displays neither ends the session nor escapes as an untyped error."""
    cells = [
        NESTED.format(depth=depth) + way
        for depth in (99, 101, 300, 400, 480, 900, 960, 980, 100_000)
        for way in ("FINAL(x)", "display({'application/json': x}, raw=True)")
    ]
    async with open_test_session() as session:
        await survives(session, cells, log)


MAKING = [
    "class R:\n    def __str__(self):\n        while True: pass\nFINAL(R())",
    "class A(dict):\n    def get(self, *a):\n        while True: pass\nanswer = A()",
    "class R:\n    def __repr__(self):\n        import os; os._exit(1)\nR()",
    "FINAL('x' * 10**9)",
    "class R:\n    def __repr__(self): return 'x' * 10**9\nR()",
    "raise Exception('x' * 10**9)",
]
MAKING_LONG = [
    "class R:\n    def __repr__(self):\n        while True: pass\nR()",
    "class R:\n    def _repr_mimebundle_(self, **_):\n        import time; time.sleep(60)\nR()",
    "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    "class R:\n    def __repr__(self):\n        import os; os.kill(os.getpid(), 9)\nR()",
    "class R:\n    def __str__(self): return 'x' * 10**9\nFINAL(R())",
    "FINAL(['x' * 10**6] * 1000)",
]


@pytest.mark.parametrize("code", [*MAKING, *(pytest.param(code, marks=pytest.mark.soak) for code in MAKING_LONG)])
async def test_making_the_value_is_the_attack(open_test_session: OpenSession, code: str, events: Events) -> None:
    """Values that hang, kill or fill the memory while they are written out cost at most the kernel; the host stays
    small."""
    async with memory_bound(100 * MIB), open_test_session(cell_timeout=1.5) as session:
        result = await run(session, code)
        assert result.status in ("ok", "error", "timed_out", "kernel_died")
        await assert_usable(session)
    assert sum(len(str(event.output)) for event in events.of(CellOutput)) < 10 * MIB
