"""The check of one answer against a JSON schema: a program of its own, as an answer can make it take for ever.

Regular expressions and schemas that hold themselves may take exponential time. It is run by its path, and so imports
nothing of the package. Standard input has `path` (for imports), `schema`, `answer` (JSON text), `most`, `characters`
and `memory` (bytes); standard output gets a list of what is wrong, each with its place.
"""

import json
import resource
import sys
from collections.abc import Hashable, Iterator
from itertools import islice
from typing import Any


def main() -> None:
    """Check what standard input has."""
    given = json.load(sys.stdin)
    sys.path[:] = given["path"]
    resource.setrlimit(resource.RLIMIT_AS, (given["memory"], given["memory"]))
    try:
        found = [
            (path[: given["characters"]], message[: given["characters"]])
            for path, message in islice(problems(given["schema"], json.loads(given["answer"])), given["most"])
        ]
    except RecursionError:
        found = [("$", "it is nested too deeply")]
    except MemoryError:
        found = [("$", "it takes too much memory to check")]
    json.dump(found, sys.stdout)


def problems(schema: dict[str, Any], value: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with `value`. Nothing outside of the schema is ever fetched."""
    import jsonschema  # noqa: PLC0415 - found only now
    from jsonschema.validators import extend, validator_for  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415

    def unique(validator: object, wanted: object, items: object, schema: object) -> Iterator[Any]:
        """Check `uniqueItems` in one pass; the library's own takes quadratic time."""
        if wanted and isinstance(items, list) and len({canonical(item) for item in items}) < len(items):
            yield jsonschema.ValidationError("its items are not unique")

    checker = extend(validator_for(schema, default=jsonschema.Draft202012Validator), {"uniqueItems": unique})  # type: ignore[no-untyped-call]
    registry: Registry[Any] = Registry()
    validator = checker(schema, registry=registry, format_checker=checker.FORMAT_CHECKER)
    for error in validator.iter_errors(value):
        yield error.json_path, error.message


def canonical(value: Any) -> Hashable:
    """Return what values share that are equal in JSON, where 1 and 1.0 are, and 1 and true are not."""
    match value:
        case bool():
            return "bool", value
        case list():
            return "list", *map(canonical, value)
        case dict():
            return frozenset((key, canonical(part)) for key, part in value.items())
    return value  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
