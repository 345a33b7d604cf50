"""The names that model-written code finds in the kernel, and what a cell leaves behind at its end."""

import json
import types
from collections.abc import Iterable
from typing import Any, NamedTuple

from . import chunks, questions
from .cuts import cut_text, is_nested
from .subcalls import BudgetExceeded, DepthExceeded, LLMQueryError, ModelUnavailable, Subcalls
from .wire import MIB

CELL_MIME = "application/vnd.rlm-kernel.cell+json"
NAMES_LIMIT = 200


class _Final(NamedTuple):
    value: Any
    source: str


class _Kernel:
    """What the functions below work on; `attach` fills it in when the kernel starts."""

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}
        self.hidden: set[str] = set()
        self.final: _Final | None = None


_kernel = _Kernel()


def attach(subcalls: Subcalls) -> dict[str, Any]:
    """Connect this module with the host and return the namespace for cells."""
    questions.attach(subcalls)
    _kernel.variables = {function.__name__: function for function in _FUNCTIONS}
    _kernel.variables |= {error.__name__: error for error in _ERRORS}
    _kernel.variables["answer"] = {"content": "", "ready": False}
    _kernel.hidden = {*_kernel.variables, "context"}
    return _kernel.variables


def bind(contexts: dict[str, Any]) -> None:
    """Make each context a variable, and `context` a dict of them where they have names of their own."""
    _kernel.variables.update(contexts)
    _kernel.variables.setdefault("context", dict(contexts))
    _kernel.hidden.update(contexts)


def offer(functions: dict[str, Any]) -> None:
    """Make the host's tools functions by their names, with the error that they raise."""
    _kernel.variables.update(functions)
    _kernel.hidden.update(functions)


def hide(names: Iterable[str]) -> None:
    """Leave `names` out of the cells' own variables."""
    _kernel.hidden.update(names)


def FINAL(value: Any) -> None:  # noqa: N802
    """Give `value` as the final answer, if this cell ends without an error."""
    _kernel.final = _Final(_portable(value), "FINAL")


def FINAL_VAR(name: str) -> None:  # noqa: N802
    """Give the value of the variable called `name` as the final answer, if this cell ends without an error."""
    if not isinstance(name, str):
        raise TypeError(f"FINAL_VAR takes a variable's name as a str, not {type(name).__name__}; FINAL takes a value")
    wanted = name.strip().strip("'\"").strip()
    if wanted not in _kernel.variables:
        import difflib  # noqa: PLC0415  rarely needed

        close = difflib.get_close_matches(wanted, user_names())
        hint = f"; did you mean {' or '.join(close)}?" if close else "; SHOW_VARS() lists the variables"
        raise NameError(f"there is no variable {wanted!r}{hint}")
    _kernel.final = _Final(_portable(_kernel.variables[wanted]), "FINAL_VAR")


def SHOW_VARS() -> dict[str, str]:  # noqa: N802
    """Return the variables made so far, each with its type and size."""
    return {name: _describe(_kernel.variables[name]) for name in user_names()}


_FUNCTIONS = (chunks.chunk, *questions.FUNCTIONS, FINAL, FINAL_VAR, SHOW_VARS)
_ERRORS = (LLMQueryError, BudgetExceeded, DepthExceeded, ModelUnavailable)


def user_names() -> list[str]:
    """Return the names of the cells' own variables."""
    return [
        name
        for name, value in list(_kernel.variables.items())
        if not name.startswith("_") and name not in _kernel.hidden and not isinstance(value, types.ModuleType)
    ]


def start_cell() -> None:
    """Forget the answer of an earlier cell, which raised or was not taken."""
    _kernel.final = None
    chunks.start_cell()
    if (answer := _ready_answer()) is not None:
        dict.__setitem__(answer, "ready", False)


class CellEnd:
    """What a cell that ended well leaves for the host."""

    def __init__(self, final: _Final | None, names: list[str]) -> None:
        self.content = {"final": final and final._asdict(), "names": names}

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {CELL_MIME: self.content}


def cell_end() -> CellEnd:
    """Take the cell's final answer and the variables' names; the host has this evaluated after each cell."""
    final = _kernel.final
    if final is None and (answer := _ready_answer()) is not None:
        final = _Final(_portable(dict.get(answer, "content")), "answer")
    return CellEnd(final, [name[:100] for name in user_names()[:NAMES_LIMIT]])


def _ready_answer() -> dict[Any, Any] | None:
    """Return `answer` if it is ready, without running a method that a cell may have given it."""
    answer = _kernel.variables.get("answer")
    if not isinstance(answer, dict):
        return None
    ready = dict.get(answer, "ready")
    return answer if isinstance(ready, (bool, int, str)) and ready else None


def _portable(value: Any) -> Any:
    """Return `value` as JSON can carry it, else as text, and within the size that crosses to the host."""
    if not isinstance(value, str):
        try:
            text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            value = str(value)
        else:
            if len(text.encode(errors="surrogatepass")) <= MIB and not is_nested(loaded := json.loads(text)):
                return loaded
            value = text
    return cut_text(value, MIB)


def _describe(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, str):
        return f"{kind}, {len(value):,} characters"
    if isinstance(value, (list, tuple, dict, set, frozenset, bytes, bytearray)):
        return f"{kind}, {len(value):,} items"
    if isinstance(value, (bool, int, float, complex, type(None))):
        return f"{kind}, {str(value)[:50]}" if not isinstance(value, int) or value.bit_length() < 1000 else kind
    return kind
