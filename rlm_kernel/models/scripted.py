"""A model that reads its replies from a file: for examples, demonstrations and tests."""

from __future__ import annotations

import re
from pathlib import Path

from rlm_kernel.errors import ConfigError, ScriptExhausted
from rlm_kernel.models.model import Completion, ModelRequest, refuse_images
from rlm_kernel.types import Usage

_SEPARATOR = re.compile(r"^--- turn ---[ \t]*$", re.MULTILINE)


class ScriptedModel:
    """Replays a file's turns, one for each request, in order, whatever is asked.

    The file is Markdown in UTF-8. A line `--- turn ---` begins a turn; the text up to the next such line, without
    blank lines at its ends, is the literal reply. What stands before the first such line is a remark for readers.
    """

    def __init__(self, name: str, path: Path) -> None:
        """Read the script. Raise `ConfigError` if it can't be read or has no turn, or an empty one."""
        self._name = name
        self._path = path
        self._turns = read_script(path)
        self._next = 0

    @property
    def name(self) -> str:
        """`scripted:` and the file's path."""
        return self._name

    async def complete(self, request: ModelRequest) -> Completion:
        """Reply with the next turn. Raise `ScriptExhausted` when there is none, `ImagesNotTaken`."""
        refuse_images(self._name, request)
        if self._next == len(self._turns):
            raise ScriptExhausted(
                f"the script {self._path} has {len(self._turns)} turns and was asked for one more; "
                "let its last turn give the final answer"
            )
        text = self._turns[self._next]
        self._next += 1
        return Completion(text=text, finish_reason="stop", usage=Usage(calls=1), served_by=self._name)

    async def aclose(self) -> None:
        """Do nothing; nothing is open."""


def read_script(path: Path) -> tuple[str, ...]:
    """Return a script's turns. Raise `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no script at {path}; give the path of a file after scripted:") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the script {path} can't be read: {error}") from None
    turns = tuple(turn.strip("\r\n") for turn in _SEPARATOR.split(text)[1:])
    if not turns or not all(map(str.strip, turns)):
        raise ConfigError(f"the script {path} has no turn, or an empty one; a line '--- turn ---' begins each turn")
    return turns
