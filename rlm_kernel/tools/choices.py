"""Types with choices within choices, such as `A | B` where both hold `A | B`: pydantic tries all combinations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

MOST_EFFORT = 100_000
"""Values that may be tried in a check, each as often as it is: some seconds."""
TOO_MUCH = "it is nested too deeply for a type that holds itself in a union without a discriminator"


class Choices:
    """How many branches of a type, each of which leads back to the same choice, an object or a list may be."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """`schema` is the type's, as pydantic writes it."""
        self._definitions: Mapping[str, Any] = schema.get("$defs", {})
        self._most = Counter({"object": 1, "array": 1})
        for name, definition in self._definitions.items():
            for branches in _unions(definition):
                back = Counter(self._kind(branch) for branch in branches if name in self._reached(branch))
                for kind in self._most:
                    self._most[kind] = max(self._most[kind], back[kind] + back["any"])

    def bear(self, value: Any) -> bool:
        """Say whether `value`, which is JSON, can be checked in bounded time."""
        if max(self._most.values()) == 1:
            return True
        effort, waiting = 0, [(value, 1)]
        while waiting and effort <= MOST_EFFORT:
            part, times = waiting.pop()
            effort += times
            if isinstance(part, dict):
                waiting += [(inner, times * self._most["object"]) for inner in part.values()]
            elif isinstance(part, list):
                waiting += [(inner, times * self._most["array"]) for inner in part]
        return effort <= MOST_EFFORT

    def _kind(self, branch: Mapping[str, Any]) -> str:
        kind = self._definitions.get(_name(branch), branch).get("type")
        return kind if kind in ("object", "array") else "any"

    def _reached(self, schema: Any) -> set[str]:
        """Return the names of all definitions that `schema` leads to."""
        reached: set[str] = set()
        waiting = [schema]
        while waiting:
            new = {_name(node) for node in _nodes(waiting.pop()) if "$ref" in node} - reached
            reached |= new
            waiting += [self._definitions[name] for name in new if name in self._definitions]
        return reached


def _name(node: Mapping[str, Any]) -> str:
    return str(node.get("$ref", "")).rpartition("/")[2]


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    if isinstance(schema, dict | list):
        for inner in schema.values() if isinstance(schema, dict) else schema:
            yield from _nodes(inner)


def _unions(schema: Any) -> Iterator[list[Any]]:
    for node in _nodes(schema):
        if isinstance(branches := node.get("anyOf"), list):
            yield [branch for branch in branches if isinstance(branch, dict)]
