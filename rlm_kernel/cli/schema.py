"""`--answer-schema`: the JSON schema that an answer has to fit, from a file."""

from __future__ import annotations

import json
from pathlib import Path

from rlm_kernel.errors import ConfigError
from rlm_kernel.types import JSON


def read_schema(path: Path) -> dict[str, JSON]:
    """Return the schema in the file at `path`. Raise `ConfigError` if it can't be read or holds no JSON object."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the answer's schema {path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the answer's schema {path} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise ConfigError(f"the answer's schema {path} is no JSON object: write a schema as {{...}}")
    return schema
