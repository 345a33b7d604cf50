"""What may differ when a cell runs again: rules that put a name in the place of each such thing, to compare the rest.

Texts are hostile: every pattern is bounded, so that a rule takes time in proportion to the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from rlm_kernel.recording.compare.set_order import in_set_order

HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where a cell ran: spans of time (UTC in seconds) that its clock may have shown, and what its session is called.

    `own` are texts that name the session alone, such as its user id and its container's.
    """

    spans: Sequence[tuple[float, float]] = ()
    own: Sequence[str] = ()


NOWHERE = Surroundings()


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that may differ; `apply` gives the text without it, and what was taken out."""

    name: str
    what: str
    apply: Callable[[str, Surroundings], tuple[str, list[str]]]


@dataclass(slots=True)
class Normal:
    """A text after all rules, and what each took out of it, by the rule's name."""

    text: str
    taken: dict[str, list[str]] = field(default_factory=dict)


MOST_CHARACTERS = 2_000_000
"""A longer text is left as it is; what the guest lets a cell show is shorter."""

_MOST_PASSES = 5
"""What a rule takes out may make room for another one's."""


def normalise(text: str, around: Surroundings) -> Normal:
    """Apply every rule to `text`, unless it is too long."""
    normal = Normal(text)
    for _ in range(_MOST_PASSES if len(text) <= MOST_CHARACTERS else 0):
        before = normal.text
        for rule in RULES:
            normal.text, taken = rule.apply(normal.text, around)
            if taken:
                normal.taken.setdefault(rule.name, []).extend(taken)
        if normal.text == before:
            break
    return normal


def struck(then: Normal, now: Normal) -> list[str]:
    """Return the names of the rules that took out of one text what they did not take out of the other."""
    return [rule.name for rule in RULES if then.taken.get(rule.name) != now.taken.get(rule.name)]


def _rule(name: str, what: str, *patterns: str) -> Rule:
    """Return a rule that puts its name in the place of each match, after its group `kept` where it has one."""
    compiled = [re.compile(pattern, re.ASCII) for pattern in patterns]

    def apply(text: str, around: Surroundings) -> tuple[str, list[str]]:
        taken: list[str] = []
        for pattern in compiled:
            text = _without(text, pattern, name, taken)
        return text, taken

    return Rule(name, what, apply)


def _without(
    text: str,
    pattern: re.Pattern[str],
    name: str,
    taken: list[str],
    counts: Callable[[re.Match[str]], bool] = lambda match: True,
) -> str:
    mark = f"⟦{name}⟧"
    keeps = "kept" in pattern.groupindex

    def replace(match: re.Match[str]) -> str:
        if not counts(match):
            return match[0]
        taken.append(match[0])
        return match["kept"] + mark if keeps else mark

    return pattern.sub(replace, text)


_CLOCK = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?[AP]M)?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?"
_CLOCK_TIME = re.compile(r"(?<![\d:.])(\d{1,2}):(\d\d):(\d\d)(?:[.,]\d{1,9})?(?![\d:])", re.ASCII)
_EPOCH = re.compile(r"(?<![\w.])(\d{10})(?:\.\d{1,9}|\d{3}|\d{6}|\d{9})?(?![\w.])", re.ASCII)
_MAX_DAYS = 10


def _times(text: str, around: Surroundings) -> tuple[str, list[str]]:
    """Take out times of the days on which the cell may have run, in the usual spellings; any other time stays."""
    taken: list[str] = []
    dates = _dates(around)
    if dates is None:
        return text, taken
    text = _without(text, dates, "times", taken)
    text = _without(text, _CLOCK_TIME, "times", taken, lambda match: _is_near(match, around))
    return _without(text, _EPOCH, "times", taken, lambda match: _is_of_these_days(match, around)), taken


def _dates(around: Surroundings) -> re.Pattern[str] | None:
    days = tuple(sorted({day for first, last in around.spans for day in _days(first - DAY, last + DAY)}))
    return _dates_of(days) if days else None


@lru_cache(maxsize=64)
def _dates_of(days: tuple[date, ...]) -> re.Pattern[str]:
    spelled = sorted({spelling for day in days for spelling in _spellings(day)}, key=len, reverse=True)
    weekday = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6},? )?"
    time = rf"(?:(?:,? |T|_|-){_CLOCK}|[T_-]?\d{{6}}Z?)?(?:,? \d{{4}})?"
    some = "|".join(map(re.escape, spelled))
    return re.compile(rf"(?<![A-Za-z0-9])(?=[0-9A-Z]){weekday}(?:{some}){time}(?![A-Za-z0-9])", re.ASCII)


def _days(first: float, last: float) -> Iterator[date]:
    """Yield the days of a span, of one that is too long the first alone."""
    try:
        day, end = (datetime.fromtimestamp(at, UTC).date() for at in (first, last))
    except (ValueError, OverflowError, OSError):
        return
    for _ in range(_MAX_DAYS):
        if day <= end:
            yield day
            day += timedelta(days=1)


def _spellings(day: date) -> Iterator[str]:
    for shape in ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%m/%d/%y"):
        yield day.strftime(shape)
    for month in (f"{day:%b}", f"{day:%B}"):
        for number in {f"{day.day}", f"{day.day:02}", f"{day.day:2}"}:
            yield from (
                f"{month} {number}",
                f"{number} {month}",
                f"{number} {month} {day.year}",
                f"{number}-{month}-{day.year}",
            )
            yield f"{month} {number}, {day.year}"


def _is_near(match: re.Match[str], around: Surroundings) -> bool:
    hours, minutes, seconds = map(int, match.groups())
    if hours > 23 or minutes > 59 or seconds > 60:
        return False
    at = hours * HOUR + minutes * 60 + seconds
    return any((at - (first - HOUR)) % DAY <= last - first + 2 * HOUR for first, last in around.spans)


def _is_of_these_days(match: re.Match[str], around: Surroundings) -> bool:
    return any(first - DAY <= int(match[1]) <= last + DAY for first, last in around.spans)


def _own(text: str, around: Surroundings) -> tuple[str, list[str]]:
    named = [re.escape(name) for name in around.own if name]
    if not named:
        return text, []
    pattern = re.compile(rf"(?<![\w.])(?:{'|'.join(named)})(?![\w.])", re.ASCII)
    taken: list[str] = []
    return _without(text, pattern, "session ids", taken), taken


def _sets(text: str, around: Surroundings) -> tuple[str, list[str]]:
    return in_set_order(text)


def _overwritten(text: str, around: Surroundings) -> tuple[str, list[str]]:
    if "\r" not in text:
        return text, []
    lines, taken = text.split("\n"), []
    for number, line in enumerate(lines):
        if "\r" in line:
            before, _, lines[number] = line.rstrip("\r").rpartition("\r")
            taken.append(before)
    return "\n".join(lines), taken


RULES: tuple[Rule, ...] = (
    Rule(
        "overwritten",
        "what a later part of its line wrote over, as progress bars do with a carriage return",
        _overwritten,
    ),
    _rule(
        "addresses",
        "memory addresses: `0x` and hexadecimal digits after `at` or `Thread`, as `repr` shows objects",
        r"\b(?P<kept>(?:at|Thread) )0x[0-9a-fA-F]{4,16}\b",
    ),
    _rule(
        "thread ids",
        "the number of a thread in its `repr`: after `started` or `started daemon`",
        r"\b(?P<kept>started (?:daemon )?)\d{4,20}\b",
    ),
    Rule(
        "session ids",
        "the session's own user id and its container's id, where they stand as a word of their own",
        _own,
    ),
    _rule(
        "process ids",
        "a number after `pid`, `ppid` or `tid`",
        r"\b(?P<kept>(?:pid|ppid|tid|PID|PPID|TID)[ =:#]{1,3})\d{1,10}\b",
    ),
    _rule(
        "temporary names",
        "names as `tempfile` makes them, `tmp` and eight characters, and IPython's own `ipykernel_` and a number",
        r"\btmp[a-z0-9_]{8}\b",
        r"\bipykernel_\d{1,10}\b",
    ),
    _rule(
        "execution counts",
        "the number in `In [7]` and `Out[7]`, that of a result too, and in `ipython-input-7`",
        r"\b(?P<kept>(?:In|Out) ?\[)\d{1,9}(?=\])",
        r"\b(?P<kept>ipython-input-)\d{1,9}\b",
    ),
    Rule(
        "times",
        "dates and times from the day before the run to the day after it, of the recorded run or of the replay, in the "
        "usual spellings, with their times of day; times of day alone (`12:34:56`) within an hour of it; seconds since "
        "1970 (milli-, micro- and nanoseconds too) within a day of it. Any other date stays",
        _times,
    ),
    _rule(
        "durations",
        "a number with a fraction and a unit of time (`1.25 s`, `0.5 seconds`, `2.5 min`), any of milli-, micro- or "
        "nanoseconds, `1min 3s`, a `timedelta` with microseconds, `00:01<00:09` and rates of progress bars "
        "(`3.2it/s`), and the loops that `%timeit` chose",
        r"\b\d{1,4}:\d\d:\d\d\.\d{6}\b",
        r"\b(?:\d{1,5}h )?\d{1,5}min \d{1,2}(?:\.\d{1,3})? ?s\b",
        r"\b\d{1,3}:\d\d(?::\d\d)?<(?:\d{1,3}:\d\d(?::\d\d)?|\?)",
        r"(?:\?|\b\d{1,9}(?:\.\d{1,9})?) ?(?:it/s|s/it|B/s|kB/s|MB/s|GB/s)(?!\w)",
        r"\b\d{1,12}(?:\.\d{1,12})? ?(?:ns|us|[µμ]s|ms|msec|nanoseconds|microseconds|milliseconds)(?!\w)",
        r"\b\d{1,9}\.\d{1,20}(?:e-?\d{1,3})? ?(?:s|secs?|seconds?|min|minutes?|h|hours?)(?!\w)",
        r"\b\d{1,9}(?:,\d{3}){0,4} loops?\b",
    ),
    _rule(
        "cut sizes",
        "how much was left out of output that was too long, in the mark that says so",
        r"(?P<kept>\[… )\d{1,20}(?= [a-z ]{1,30}? cut …\])",
        r"(?P<kept>\bof )\d{1,20}(?= bytes(?: cut …\]|,))",
    ),
    Rule(
        "set order",
        "the order inside sets and frozensets as `repr` shows them: what stands in `{…}`, parted by commas and without "
        "a colon, in texts of up to half a million characters",
        _sets,
    ),
)
"""In the order in which they are applied. docs/replay.md lists them."""

ORDER_RULES: Mapping[str, str] = {
    "stream order": "how standard output, standard error and displays lie among one another; each has its own order",
    "line order": "the order of the lines of one stream, where the cell or one before it speaks of threads or tasks",
    "late output": "what comes after its cell has ended: when it comes, and how much of it has come when the run ends",
    "cut output": "what follows where output was cut as there was too much of it; streams are compared up to there",
    "redacted": "what stands in the place of something that was kept out of the recording",
}
"""What is told apart by place and not by text."""
