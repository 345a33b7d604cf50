"""A recorded cell and the same cell as it ran again: whether they are the same, and how they differ.

Both are hostile: what is done here takes time in proportion to their size, and runs and parses none of their code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from rlm_kernel.recording.compare.difference import Difference, readable, trimmed
from rlm_kernel.recording.compare.normalise import MOST_CHARACTERS, NOWHERE, Surroundings, normalise, struck
from rlm_kernel.recording.compare.ran import Ran
from rlm_kernel.recording.redaction import REDACTED, fits
from rlm_kernel.text import joined
from rlm_kernel.types import JSON

Verdict = Literal["identical", "normalised", "varies", "different"]

_LONG = 1_000_000
_MOST_DIFFERENCES = 4
_STREAMS = ("stdout", "stderr")
_MOVED = frozenset(["line order", "late output", "cut output"])
_CUT_HERE = "\n[… output is cut from here on …]"


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What comparing came to. `rules` are those that hid a difference, `reads` what the cell has that is not pinned.

    `where` names what differs in spite of the rules, and `diff` shows it with placeholders for what the rules took out.
    """

    verdict: Verdict
    rules: list[str] = []
    reads: list[str] = []
    where: list[str] = []
    diff: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known of both sides; `reads` and `parallel` are what `Reading` says of the cell."""

    then: Surroundings = NOWHERE
    now: Surroundings = NOWHERE
    reads: Sequence[str] = ()
    parallel: bool = False
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    """One thing that a cell showed: "stdout", or "text/html of display 2"."""

    what: str
    text: str


@dataclass(slots=True)
class _Findings:
    """What is found so far."""

    rules: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def add(self, more: _Findings) -> None:
        self.rules += more.rules
        self.differences += more.differences


def compare_cells(then: Ran, now: Ran, around: Circumstances) -> Compared:
    """Compare a recorded cell with the same one as it ran again."""
    redacted = bool(then.redacted or now.redacted or around.redacted)
    if _shown(then) == _shown(now) and not redacted:
        return Compared(verdict="identical", reads=[*around.reads])
    around = replace(around, redacted=redacted)
    found = _Findings(["redacted"] if then.redacted or now.redacted else [])
    for one, other in zip(_ending(then), _ending(now), strict=True):
        found.add(_compare_part(one, other, around))
    found.add(_compare_outputs(then, now, around))
    unmarked = then.redacted and not any(REDACTED in difference.then for difference in found.differences)
    reads = [*around.reads, *(["what was kept out of the recording"] if unmarked else [])]
    return verdict(found.rules, found.differences, reads)


def compare_texts(what: str, then: str, now: str, around: Circumstances) -> Compared:
    """Compare two texts, such as answers."""
    found = _compare_part(_Part(what, then), _Part(what, now), around)
    return verdict(found.rules, found.differences, around.reads)


def verdict(rules: Iterable[str], differences: Sequence[Difference], reads: Sequence[str]) -> Compared:
    """Return what is to be said of `differences` that stayed when `rules` were applied."""
    named = sorted(set(rules))
    if not differences:
        return Compared(verdict="normalised" if named else "identical", rules=named, reads=[*reads])
    diff = "\n".join(map(readable, differences[:_MOST_DIFFERENCES]))
    if more := len(differences) - _MOST_DIFFERENCES:
        diff += f"\n… {more} more" if more > 0 else ""
    return Compared(
        verdict="varies" if reads else "different",
        rules=named,
        reads=[*reads],
        where=[difference.what for difference in differences[:20]],
        diff=diff,
    )


def _shown(ran: Ran) -> object:
    return ran.outputs, ran.late, ran.cut, _ending(ran)


def _ending(ran: Ran) -> list[_Part]:
    """Return what is told of a cell besides its outputs, as texts."""
    error = "" if ran.ename is None else f"{ran.ename}: {ran.evalue}"
    final = "" if ran.final_source is None else f"{ran.final_source}: {_as_text(ran.final)}"
    cut = f"[… {ran.cut} bytes cut …]" if ran.cut else ""
    return [
        _Part("code", ran.code),
        _Part("status", ran.status or "no end"),
        _Part("error", error),
        _Part("answer", final),
        _Part("cut", cut),
    ]


def _parts(outputs: Iterable[dict[str, JSON]]) -> list[_Part]:
    """Return what outputs show, each form of a display as a part of its own."""
    parts: list[_Part] = []
    displays = 0
    for output in outputs:
        match output:
            case {"output_type": "stream", "name": name, "text": text}:
                parts.append(_Part(str(name), joined(text)))
            case {"output_type": "error"}:
                lines = output.get("traceback") or [f"{output.get('ename')}: {output.get('evalue')}"]
                parts.append(_Part("traceback", "\n".join(map(str, lines if isinstance(lines, list) else [lines]))))
            case _:
                displays += 1
                parts += _forms(output, f"display {displays}")
    return parts


def _forms(output: dict[str, JSON], name: str) -> list[_Part]:
    parts = [_Part(f"{name}, its number", f"Out[{output['execution_count']}]")] if "execution_count" in output else []
    data, metadata = output.get("data"), output.get("metadata")
    for mime, value in sorted(data.items()) if isinstance(data, dict) else []:
        parts.append(_Part(f"{name}, {mime}", _as_text(value)))
    if metadata:
        parts.append(_Part(f"{name}, metadata", _as_text(metadata)))
    return parts


def _as_text(value: JSON) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "".join(map(str, value))
    return msgspec.json.encode(value, order="sorted").decode()


def _same(one: str, other: str, around: Circumstances) -> tuple[list[str] | None, str, str]:
    """Return the rules that make both texts equal, None if none do, and the texts that are compared then."""
    if one == other:
        return [], one, other
    if max(len(one), len(other)) > _LONG:
        one, other = trimmed(one, other)
    then, now = normalise(one, around.then), normalise(other, around.now)
    if then.text == now.text:
        return struck(then, now), then.text, now.text
    if around.redacted and (_may_be(then.text, now.text) or _may_be(now.text, then.text)):
        return [*struck(then, now), "redacted"], then.text, now.text
    return None, then.text, now.text


def _may_be(redacted: str, whole: str) -> bool:
    """Tell whether `whole` may be what `redacted` was before something, or all of it, was kept out of the recording."""
    nothing_left = REDACTED in redacted and not redacted.replace(REDACTED, "").strip()
    return nothing_left or fits(redacted, whole)


def _compare_part(then: _Part, now: _Part, around: Circumstances) -> _Findings:
    if then.what != now.what:
        return _Findings(differences=[Difference(then.what, f"{then.what}\n{then.text}", f"{now.what}\n{now.text}")])
    rules, one, other = _same(then.text, now.text, around)
    if rules is None:
        return _Findings(differences=[Difference(then.what, one, other)])
    return _Findings(rules)


def _compare_outputs(then: Ran, now: Ran, around: Circumstances) -> _Findings:
    """Compare what was shown in the order in which it was; where that differs, each stream and the rest by itself."""
    if not (then.late or now.late or then.cut or now.cut):
        found = _compare_all(_parts(then.outputs), _parts(now.outputs), around)
        if not found.differences:
            return found
    found = _Findings()
    for name in _STREAMS:
        found.add(_compare_stream(_Stream.of(name, then), _Stream.of(name, now), around))
    found.add(_compare_displays(then, now, around))
    if not found.differences and not _MOVED & set(found.rules):
        found.rules.append("stream order")
    return found


def _compare_all(then: Sequence[_Part], now: Sequence[_Part], around: Circumstances) -> _Findings:
    found = _Findings()
    for index in range(max(len(then), len(now))):
        what = (then if index < len(then) else now)[index].what
        one = then[index] if index < len(then) else _Part(what, "")
        other = now[index] if index < len(now) else _Part(what, "")
        found.add(_compare_part(one, other, around))
        if one.what != other.what:
            break
    return found


def _compare_displays(then: Ran, now: Ran, around: Circumstances) -> _Findings:
    one, other = _rest([*then.outputs, *then.late]), _rest([*now.outputs, *now.late])
    found = _compare_all(_parts(one), _parts(other), around)
    if not found.differences:
        late = len(_rest(then.late)) != len(_rest(now.late))
        return _Findings([*found.rules, *(["late output"] if late else [])])
    least = max(len(_rest(then.outputs)), len(_rest(now.outputs)))
    shorter = min(len(one), len(other))
    if shorter >= least and len(one) != len(other):
        cut = _compare_all(_parts(one[:shorter]), _parts(other[:shorter]), around)
        if not cut.differences:
            return _Findings([*cut.rules, "late output"])
    return found


def _rest(outputs: Iterable[dict[str, JSON]]) -> list[dict[str, JSON]]:
    return [output for output in outputs if output.get("output_type") != "stream"]


@dataclass(frozen=True, slots=True)
class _Stream:
    """All text of one stream: what came in time, and what came late."""

    name: str
    text: str
    late: str
    cut: bool

    @classmethod
    def of(cls, name: str, ran: Ran) -> _Stream:
        return cls(name, _text_of(name, ran.outputs), _text_of(name, ran.late), ran.cut > 0)


def _text_of(name: str, outputs: Iterable[dict[str, JSON]]) -> str:
    streams = (output for output in outputs if output.get("output_type") == "stream")
    return "".join(joined(output.get("text")) for output in streams if output.get("name") == name)


def _compare_stream(then: _Stream, now: _Stream, around: Circumstances) -> _Findings:
    rules, one, other = _same(then.text + then.late, now.text + now.late, around)
    if rules is not None:
        return _Findings([*rules, *(["late output"] if then.late != now.late else [])])
    if then.cut or now.cut:
        one_cut, other_cut = _up_to_cut(then), _up_to_cut(now)
        rules, *_ = _same(one_cut[: len(other_cut)], other_cut[: len(one_cut)], around)
        enough = then.cut >= (len(one_cut) < len(other_cut)) and now.cut >= (len(other_cut) < len(one_cut))
        if rules is not None and enough:
            return _Findings([*rules, "cut output"])
    if (then.late or now.late) and _differ_in_late_text(then, now, around):
        return _Findings(["late output"])
    if around.parallel and len(one) <= 2 * MOST_CHARACTERS and sorted(one.split("\n")) == sorted(other.split("\n")):
        return _Findings(["line order"])
    return _Findings(differences=[Difference(then.name, one, other)])


def _differ_in_late_text(then: _Stream, now: _Stream, around: Circumstances) -> bool:
    """Tell whether one text begins with the other, and both have what came in time on either side."""
    sides = ((then, around.then), (now, around.now))
    all_of = [normalise(stream.text + stream.late, there).text for stream, there in sides]
    in_time = [normalise(stream.text, there).text for stream, there in sides]
    shorter, longer = sorted(all_of, key=len)
    return longer.startswith(shorter) and all(map(shorter.startswith, in_time))


def _up_to_cut(stream: _Stream) -> str:
    return (stream.text + stream.late).partition(_CUT_HERE)[0]
