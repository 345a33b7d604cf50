"""Loading the context from its blob: UTF-8 text, several texts with an index, or JSON."""

import json
import mmap
from pathlib import Path
from typing import Any

from .images import Image


def load_context(bind: dict[str, Any]) -> Any:
    """Return a context's value: `bind` has its `kind`, `size`, `path` and `index_path`, and an image's facts.

    Raise `OSError` for files that can't be read, `ValueError`, `KeyError` or `TypeError` for what is not as announced.
    """
    path, size = bind["path"], bind["size"]
    found = Path(path).stat().st_size
    if found != size:
        raise ValueError(f"{path} has {found} bytes, not {size}")
    if not size:
        return _value(bind, memoryview(b""))
    # decoded from the page cache, without a copy of the bytes
    with (
        Path(path).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob,
        memoryview(blob) as view,
    ):
        return _value(bind, view)


def _value(bind: dict[str, Any], blob: memoryview) -> Any:
    match bind["kind"]:
        case "str":
            return str(blob, "utf-8")
        case "json":
            return json.loads(str(blob, "utf-8"))
        case "files":
            files = json.loads(Path(bind["index_path"]).read_text("utf-8"))["files"]
            return {path: str(blob[start : start + length], "utf-8") for path, start, length in files}
        case "image":
            return Image(bind["name"], bytes(blob), bind)
    raise ValueError(f"an unknown kind of context: {bind['kind']!r}")
