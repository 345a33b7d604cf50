"""What cells read that is not the same twice, found by the words of their code, which is never parsed or run here."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Mapping, Sequence

ENTROPY: Mapping[str, tuple[str, ...]] = {
    "chance": (
        "urandom",
        "getrandom",
        "/dev/random",
        "secrets",
        "uuid",
        "uuid1",
        "uuid4",
        "SystemRandom",
        "default_rng",
        "RandomState",
        "SeedSequence",
        "np.random",
        "numpy.random",
        "random_state",
    ),
    "time": (
        "perf_counter",
        "perf_counter_ns",
        "monotonic",
        "monotonic_ns",
        "process_time",
        "process_time_ns",
        "thread_time",
        "timeit",
        "%time",
        "time.time",
        "time_ns",
        "clock_gettime",
        "datetime.now",
        "utcnow",
        "today",
        "localtime",
        "gmtime",
        "ctime",
        "strftime",
        "tqdm",
    ),
    "names and numbers of the system": (
        "tempfile",
        "mkdtemp",
        "mkstemp",
        "NamedTemporaryFile",
        "TemporaryDirectory",
        "getpid",
        "getppid",
        "getuid",
        "get_ident",
        "get_native_id",
        "st_mtime",
        "getmtime",
    ),
    "memory and load": (
        "id(",
        "getrusage",
        "psutil",
        "tracemalloc",
        "getloadavg",
        "disk_usage",
        "/proc",
        "/sys",
    ),
}
"""Words of code, by what they read. docs/replay.md lists them."""

UNPINNED = ("random", "hash(", "set(", "frozenset(")
"""Words that count too where the recorded session had no seed."""

PARALLEL = (
    "threading",
    "Thread",
    "ThreadPoolExecutor",
    "ProcessPoolExecutor",
    "concurrent",
    "multiprocessing",
    "Pool",
    "asyncio",
    "gather",
    "create_task",
    "TaskGroup",
    "as_completed",
    "subprocess",
    "Popen",
    "joblib",
)
"""Words of code that runs things side by side."""

_GIVEN = frozenset(["context", "answer", "chunk", "llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched"])
_OURS = frozenset(
    {*dir(builtins), *keyword.kwlist, *keyword.softkwlist, *_GIVEN, "FINAL", "FINAL_VAR", "SHOW_VARS", "self"}
)
_NAME = re.compile(r"[^\W\d]\w*")
_IMPORTED = re.compile(r"(?m)^[ \t]{0,40}(?:import|from)[ \t]([^\n]{1,1000})")
_BOUND = (
    re.compile(r"(?m)^([\w,()\[\] \t*.:+\-/%&|^@<>'\"]{1,500}?)=(?!=)"),
    re.compile(r"\bfor[ \t]{1,20}([\w,() \t*]{1,200}?)[ \t]in\b"),
    re.compile(r"\b(?:as|def|class|global|nonlocal)[ \t]{1,20}(\w{1,100})"),
    re.compile(r"\b(\w{1,100}) ?:="),
    re.compile(r"\b(\w{1,100})\.\w{1,100}\("),
)
_MOST_NAMES = 10_000
_MOST_CODE = 500_000


def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    spelled = sorted(words, key=len, reverse=True)
    first = re.escape("".join(sorted({word[0] for word in words})))
    some = "|".join(re.escape(word) + ("" if word.endswith("(") else r"(?!\w)") for word in spelled)
    return re.compile(rf"(?<!\w)(?=[{first}])(?:{some})")


_PINNED_WORDS = _any_of(tuple(word for words in ENTROPY.values() for word in words))
_UNPINNED_WORDS = _any_of((*(word for words in ENTROPY.values() for word in words), *UNPINNED))
_PARALLEL_WORDS = _any_of(PARALLEL)


class Reading:
    """What the cells of one session read, in their order: each one's own words, and the names that carry them on.

    A later cell has something from an earlier one where it speaks of a name that the earlier one bound. `pinned`: the
    session had a seed for Python's hashes and `random`.
    """

    def __init__(self, *, pinned: bool) -> None:
        self._words = _PINNED_WORDS if pinned else _UNPINNED_WORDS
        self._carried: dict[str, str] = {}
        self._imported: set[str] = set()
        self.parallel = False
        """Whether a cell so far spoke of threads or tasks."""

    def take(self, cell: int, code: str, more: Sequence[str] = ()) -> list[str]:
        """Return what the next cell, `cell`, reads, in words for people; nothing if it is the same each time.

        `more` is what else it has that is not pinned.
        """
        code = code[:_MOST_CODE]
        self.parallel = self.parallel or _PARALLEL_WORDS.search(code) is not None
        for line in _IMPORTED.findall(code):
            self._imported.update(_NAME.findall(line))
        found = [*sorted({match[0].rstrip("(") for match in self._words.finditer(code)}), *more]
        names = set(_NAME.findall(code))
        carried = sorted({self._carried[name] for name in names & self._carried.keys()})
        if found or carried:
            own = f"cell {cell}: {', '.join(found)}" if found else carried[0]
            for name in self._bound(code):
                if len(self._carried) < _MOST_NAMES:
                    self._carried.setdefault(name, own)
        return [*found, *carried]

    def _bound(self, code: str) -> set[str]:
        targets = (found for pattern in _BOUND for found in pattern.findall(code))
        return {name for target in targets for name in _NAME.findall(target)} - _OURS - self._imported
