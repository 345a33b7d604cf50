"""Prompt profiles: files that say what a family of models is told, and how it is asked for code."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import msgspec

from rlm_kernel.errors import ConfigError
from rlm_kernel.types import JSON

PLACEHOLDERS = frozenset({"shown_characters", "cell_seconds", "max_turns", "subcall_characters"})
"""What a prompt may name with a dollar sign before it."""
CONDITIONS = frozenset({"tools", "fences", "recursion"})
"""What a section may ask for in braces after its title."""

_OURS = frozenset(
    {"model", "messages", "system", "tools", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n"}
)
"""What a request says for reasons of our own: limits and budgets among them."""
_MARK = "+++"
_HEADING = re.compile(r"##\s+(?P<title>.*?)\s*(?:\{(?P<needs>[^{}]*)\})?\s*")
_AT_LINE = re.compile(r"at line (\d+)")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a system prompt, shown where all of `needs` hold. The first of a file has no title."""

    title: str
    needs: frozenset[str]
    text: str

    @property
    def key(self) -> tuple[str, frozenset[str]]:
        """What a section of another profile must have to take its place."""
        return self.title, self.needs


@dataclass(frozen=True, slots=True)
class Profile:
    """How one family of models is led.

    `digest` is SHA-256 of the files it was made of, `source` the path of the first, or "built in". `window` is how many
    tokens the model can read (None: unknown), `request` are further fields of its requests.
    """

    name: str
    source: str
    digest: str
    sections: tuple[Section, ...]
    tools: bool = False
    window: int | None = None
    request: Mapping[str, JSON] = field(default_factory=dict)

    def system_prompt(self, values: Mapping[str, object], *, recursion: bool = False) -> str:
        """Return the system prompt with `values` for its placeholders; `recursion`: cells may call `rlm_query`."""
        holds = {"tools" if self.tools else "fences", *(["recursion"] if recursion else [])}
        shown = [section for section in self.sections if section.needs <= holds and section.text]
        text = "\n\n".join(f"## {part.title}\n\n{part.text}" if part.title else part.text for part in shown)
        return Template(text).substitute(values)


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    match: list[str] = []
    inherits: str | None = None
    tools: bool | None = None
    window: int | None = None
    request: dict[str, JSON] = {}


@dataclass(frozen=True, slots=True)
class _File:
    """One profile's file as it was read; `place` is what messages call it."""

    name: str
    place: str
    text: str
    head: _Head
    sections: tuple[Section, ...]


def find_profile(model: str, folder: Path | None = None, chosen: str | None = None) -> Profile:
    """Return the profile for `model`, a name as `provider:model`.

    `chosen` is a profile's name or the path of its file. Otherwise the pattern with the most letters that fits the
    name decides, of those in `folder` before the built-in ones. A file in `folder` takes the place of a built-in
    profile of its name. Raise `ConfigError` naming file and line.
    """
    own = {file.stem: _read(file, str(file)) for file in sorted(folder.glob("*.md"))} if folder else {}
    known = _built_in() | own
    if chosen is not None:
        return _made(_chosen(chosen, known), known)
    for group in (own.values(), known.values()):
        fitting = [(_letters(pattern), file) for file in group for pattern in file.head.match if _fits(model, pattern)]
        if fitting:
            return _made(max(fitting, key=lambda fit: fit[0])[1], known)
    raise AssertionError("the built-in profile `default` fits every model")


@cache
def _built_in() -> dict[str, _File]:
    folder = files("rlm_kernel.controller").joinpath("profiles")
    return {file.name[:-3]: _read(file, "built in") for file in folder.iterdir() if file.name.endswith(".md")}


def _chosen(chosen: str, known: Mapping[str, _File]) -> _File:
    if chosen in known:
        return known[chosen]
    path = Path(chosen).expanduser()
    if path.suffix != ".md":
        raise ConfigError(
            f"there is no profile {chosen!r}: there are {', '.join(sorted(known))}; a path must end with .md"
        )
    return _read(path, str(path))


def _fits(model: str, pattern: str) -> bool:
    return fnmatchcase(model.lower(), pattern.lower())


def _letters(pattern: str) -> int:
    return sum(map(str.isalnum, pattern))


def _made(file: _File, known: Mapping[str, _File]) -> Profile:
    """Return a profile with what it inherits: a section takes the place of the one with its title, or comes last."""
    chain = [file]
    while (parent := chain[-1].head.inherits) is not None:
        if parent not in known:
            raise ConfigError(
                f"{chain[-1].place}, line 1: it inherits from {parent!r}, which is none of {', '.join(sorted(known))}"
            )
        if known[parent] in chain:
            raise ConfigError(f"{chain[-1].place}, line 1: it inherits from {parent!r}, which inherits from it")
        chain.append(known[parent])
    sections: dict[tuple[str, frozenset[str]], Section] = {}
    made = Profile(name=file.name, source=file.place, digest=_digest(chain), sections=())
    for each in reversed(chain):
        sections |= {section.key: section for section in each.sections if section.title or section.text}
        head = each.head
        made = replace(
            made,
            tools=made.tools if head.tools is None else head.tools,
            window=made.window if head.window is None else head.window,
            request={**made.request, **head.request},
        )
    return replace(made, sections=tuple(sections.values()))


def _digest(chain: Iterable[_File]) -> str:
    return hashlib.sha256("\0".join(file.text for file in chain).encode()).hexdigest()


def _read(file: Path | Traversable, place: str) -> _File:
    try:
        text = file.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the profile {file} can't be read: {error}") from None
    lines = text.split("\n")
    if lines[0].rstrip() != _MARK:
        raise ConfigError(f"{file}, line 1: a profile begins with a line {_MARK}, its settings as TOML, and another")
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == _MARK), None)
    if end is None:
        raise ConfigError(f"{file}, line 1: no line {_MARK} ends the settings")
    head = _head(file, "\n".join(lines[1:end]))
    return _File(file.name[:-3], place, text, head, tuple(_sections(file, lines, end + 1)))


def _head(file: Path | Traversable, text: str) -> _Head:
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        raise ConfigError(f"{file}, line {int(at[1]) + 1 if at else text.count(chr(10)) + 2}: {error}") from None
    try:
        head = msgspec.convert(given, _Head)
    except msgspec.ValidationError as error:
        name = next((name for name in given if f"`{name}`" in str(error) or f"$.{name}" in str(error)), "")
        line = _line(text, name)
        known = ", ".join(_Head.__struct_fields__)
        raise ConfigError(f"{file}, line {line}: {error}; the settings are {known}") from None
    if taken := sorted(_OURS & head.request.keys()):
        raise ConfigError(
            f"{file}, line {_line(text, taken[0])}: {taken[0]!r} in a request is not the profile's to say"
        )
    if head.window is not None and head.window < 1:
        raise ConfigError(f"{file}, line 2: a window of {head.window} tokens can't be")
    return head


def _line(text: str, name: str) -> int:
    """Return the line that gives the setting `name`, in the file whose settings are `text`."""
    return next((n for n, line in enumerate(text.split("\n"), 2) if name and line.strip(" [").startswith(name)), 2)


def _sections(file: Path | Traversable, lines: list[str], first: int) -> Iterable[Section]:
    """Take a prompt apart at its `## ` headings, those in fences left out, and check what it names."""
    title, needs, begin, fenced = "", frozenset[str](), first, False
    for number in range(first, len(lines)):
        line = lines[number]
        fenced ^= line.startswith("```")
        _check_placeholders(file, number + 1, line)
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading is None:
            continue
        yield Section(title, needs, "\n".join(lines[begin:number]).strip())
        title, begin = heading["title"], number + 1
        needs = frozenset((heading["needs"] or "").split())
        if unknown := sorted(needs - CONDITIONS):
            raise ConfigError(
                f"{file}, line {number + 1}: no section can ask for {unknown[0]!r}; there are: "
                f"{', '.join(sorted(CONDITIONS))}"
            )
    yield Section(title, needs, "\n".join(lines[begin:]).strip())


def _check_placeholders(file: Path | Traversable, number: int, line: str) -> None:
    for found in Template.pattern.finditer(line):
        name = found["named"] or found["braced"]
        if found["escaped"] is None and name not in PLACEHOLDERS:
            said = f"${name} stands for nothing" if name else "a dollar sign stands alone"
            known = ", ".join(f"${each}" for each in sorted(PLACEHOLDERS))
            raise ConfigError(f"{file}, line {number}: {said}; there are {known}, and $$ for a dollar sign")
