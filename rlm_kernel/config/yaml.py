"""YAML as a job's file has it: plain values as in YAML 1.2's core schema, each key once, and nothing that grows."""

from __future__ import annotations

import re
from typing import Any

import yaml

from rlm_kernel.config.documents import MOST_NESTING

_CORE = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^[-+]?[0-9]{1,30}$"), list("-+0123456789")),
    ("float", re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")),
)


class _Loader(yaml.SafeLoader):
    """Reads one document; aliases, tags, keys given twice and keys that are no text are errors."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - the base's own type

    nesting = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused(event, "aliases are not taken: write it out")
        if getattr(event, "tag", None) is not None:
            raise _refused(event, f"tags are not taken, and this one is {event.tag[:100]}")
        if self.nesting > MOST_NESTING:
            raise _refused(event, f"this nests deeper than {MOST_NESTING}")
        self.nesting += 1
        node = super().compose_node(parent, index)
        self.nesting -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise _refused(key, "a key must be text: put it in quotes")
            if name in seen:
                raise _refused(key, f"the key {name[:100]!r} stands twice")
            seen.add(name)
        return super().construct_mapping(node, deep=True)


def _refused(where: Any, why: str) -> ValueError:
    return ValueError(f"line {where.start_mark.line + 1}: {why}")


def _decimal(loader: Any, node: Any) -> int:
    return int(loader.construct_scalar(node))


for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


def read_yaml(text: str) -> Any:
    """Return what `text` holds. Raise `ValueError`, or `RecursionError` where it nests too deep."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{line}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
