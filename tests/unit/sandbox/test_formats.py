"""Tables, JSON files and JSON lines: what they become, and what is wrong with those that can't be read."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_kernel.errors import ConfigError, ContextEncoding, ContextError, ContextUnreadable
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.formats import Form
from rlm_kernel.sandbox.given import Json, JsonLines, Table
from rlm_kernel.sandbox.stored import StoredContext


def value(stored: StoredContext) -> Any:
    """Return what the kernel would bind."""
    assert stored.kind == "json"
    return json.loads(stored.path.read_text())


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.csv", "city,n\nLima,1\nRome,2\n", [{"city": "Lima", "n": "1"}, {"city": "Rome", "n": "2"}]),
        ("a.csv", "\ufeffcity;n\r\nLima;1\r\n\r\n", [{"city": "Lima", "n": "1"}]),
        ("a.tsv", "a,b\tn\nx\t1", [{"a,b": "x", "n": "1"}]),
        ("a.csv", 'city,n\n"Li\nma, ""x""",\n', [{"city": 'Li\nma, "x"', "n": ""}]),
        ("a.csv", "city,n,m\nLima\n", [{"city": "Lima", "n": None, "m": None}]),
        ("a.csv", "city\n", []),
        ("a.csv", "only\nLima\n", [{"only": "Lima"}]),
    ],
)
async def test_a_table(store: ContextStore, tmp_path: Path, name: str, text: str, rows: list[Any]) -> None:
    """The first line names the columns; delimiters, quotes, blank lines and short rows are as people expect."""
    (tmp_path / name).write_text(text, newline="")
    assert value(await store.put(Table(tmp_path / name))) == rows


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"])), min_size=2, max_size=2)
    )
)
def test_any_cells_survive(tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]) -> None:
    """What Python's own writer wrote comes back, cell by cell."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["a", "b"], *cells])
    store = ContextStore(tmp_path_factory.mktemp("any"))
    stored = store.put_stream(io.BytesIO(text.getvalue().encode()), Form("table"))
    assert [[row["a"], row["b"]] for row in value(stored)] == cells
    assert stored.value_size >= 100 * len(cells)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n1,2,3\n", "has 3 cells in line 3 and 2 columns"),
        ('a,b\n1,2\n"1,2\n', "can't be read at line 3: unexpected end of data"),
        ("a,b,a\n", "two columns called 'a'"),
        ("", "is empty"),
        ("\n \n", "is empty"),
    ],
)
async def test_a_table_that_can_not_be_read(store: ContextStore, tmp_path: Path, text: str, says: str) -> None:
    """The error names the file and the line, and nothing of it stays."""
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ContextError, match=says):
        await store.put(Table(tmp_path / "a.csv"))
    assert [path.name for path in (tmp_path / "contexts").glob("*") if path.is_file()] == []


async def test_json_lines(store: ContextStore, tmp_path: Path) -> None:
    """Each line is a value, blank ones are none, and an error names the line."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n"größe"\r\n[null]')
    assert value(await store.put(JsonLines(path))) == [{"a": 1}, "größe", [None]]
    path.write_text('{"a": 1}\n{"a": }\n')
    with pytest.raises(ContextError, match=r"line 2 of .*a.jsonl is not JSON"):
        await store.put(JsonLines(path))


@pytest.mark.parametrize("text", ["", "{", "[1] 2", "[" * 100_000, "NaN"])
async def test_json_that_is_none(store: ContextStore, tmp_path: Path, text: str) -> None:
    """It is an error before anything is started, and nothing of it stays."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ContextError, match=r"a\.json is not JSON"):
        await store.put(Json(tmp_path / "a.json"))
    assert [path.name for path in (tmp_path / "contexts").glob("*") if path.is_file()] == []


async def test_a_form_is_part_of_what_is_known_of_a_file(tmp_path: Path) -> None:
    """The same file as text, as a table and as JSON lines are three contexts, also where it is not read again."""
    store = ContextStore(tmp_path / "contexts", settle_seconds=-1)
    (tmp_path / "a").write_text("[1]\n[2]\n")
    for _ in range(2):
        assert (await store.put(tmp_path / "a")).kind == "str"
        assert value(await store.put(JsonLines(tmp_path / "a"))) == [[1], [2]]
        assert value(await store.put(Table(tmp_path / "a"))) == [{"[1]": "[2]"}]


async def test_what_is_no_text_is_no_table(store: ContextStore, tmp_path: Path) -> None:
    """A folder, other encodings and delimiters that are none are refused in words."""
    with pytest.raises(ContextUnreadable, match="is a folder"):
        await store.put(Table(tmp_path))
    (tmp_path / "a.csv").write_bytes(b"a,b\ncaf\xe9,1")
    with pytest.raises(ContextEncoding, match="not UTF-8 from byte 7 on"):
        await store.put(Table(tmp_path / "a.csv"))
    with pytest.raises(ConfigError, match="one character, not ', '"):
        Table(tmp_path / "a.csv", delimiter=", ")


class Frame:
    """Has what pandas' data frames have of what is used here."""

    columns = ("when", "n")

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        """Return the rows."""
        assert orient == "records"
        return [{"when": datetime(2026, 1, 2), "n": 1.5}]


class Polars:
    """Has what polars' data frames have of what is used here."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows."""
        return [{"n": 1}]


async def test_data_frames(store: ContextStore) -> None:
    """They are lists of rows, as they are or within `Table`; what is no JSON is refused by its type."""
    assert value(await store.put(Frame())) == [{"when": "2026-01-02T00:00:00", "n": 1.5}]
    assert value(await store.put(Table(Polars()))) == [{"n": 1}]
    with pytest.raises(ContextError, match="a object is no JSON value"):
        await store.put([object()])  # type: ignore[list-item]
