"""The scripted model and its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_kernel.errors import ConfigError, ScriptExhausted
from rlm_kernel.models.scripted import ScriptedModel
from rlm_kernel.types import Usage
from tests.unit.models.fakes import ASK

SCRIPT = """# A remark for readers
--- turn ---

First I look.

```repl
print(len(context))  # --- turn --- inside a line is text
```

--- turn ---
FINAL(42)
"""


def _model(folder: Path, text: str) -> ScriptedModel:
    path = folder / "script.md"
    path.write_text(text, encoding="utf-8")
    return ScriptedModel(f"scripted:{path}", path)


async def test_turns_are_replayed_in_order(tmp_path: Path) -> None:
    """Each request gets the next turn, word for word, free of charge; the remark is no turn."""
    model = _model(tmp_path, SCRIPT)
    first, second = await model.complete(ASK), await model.complete(ASK)
    assert first.text == ("First I look.\n\n```repl\nprint(len(context))  # --- turn --- inside a line is text\n```")
    assert second.text == "FINAL(42)"
    assert second.usage == Usage(calls=1)
    assert second.served_by == model.name


async def test_windows_line_ends_are_no_obstacle(tmp_path: Path) -> None:
    """A script saved with CRLF has the same turns."""
    path = tmp_path / "script.md"
    path.write_bytes(b"--- turn ---\r\none\r\n--- turn ---\r\ntwo\r\n")
    model = ScriptedModel("scripted:x", path)
    assert [(await model.complete(ASK)).text for _ in range(2)] == ["one", "two"]


async def test_the_end_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    """One request too many raises `ScriptExhausted`, with the file and the number of its turns."""
    model = _model(tmp_path, "--- turn ---\nonly\n")
    await model.complete(ASK)
    for _ in range(2):
        with pytest.raises(ScriptExhausted, match=r"script\.md has 1 turn"):
            await model.complete(ASK)


@pytest.mark.parametrize("text", ["", "no turn here", "--- turn ---\n", "--- turn ---\na\n--- turn ---\n \n"])
def test_a_script_without_turns_is_refused(tmp_path: Path, text: str) -> None:
    """A file with no turn, or an empty one, is refused when it is opened."""
    with pytest.raises(ConfigError, match="--- turn ---"):
        _model(tmp_path, text)


def test_a_script_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder and bytes that are no UTF-8 are each refused by name."""
    binary = tmp_path / "binary.md"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent.md", tmp_path, binary):
        with pytest.raises(ConfigError, match=str(path)):
            ScriptedModel("scripted:x", path)
