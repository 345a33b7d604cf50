"""A model's Markdown, written anew: its structure, emphasis and code stay; links, images and HTML are text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from rlm_kernel.export.text import fenced, in_code_span, in_markdown, seen

MAX_CHARACTERS = 50_000
"""Longer text is shown as it is, line by line: it is hardly prose."""
_MAX_LEVEL = 20

_PARSER = (
    MarkdownIt("commonmark", {"html": False, "maxNesting": _MAX_LEVEL})
    .enable("table")
    .disable(
        ["link", "image", "autolink", "html_block", "html_inline", "reference", "entity", "code", "lheading", "hr"]
    )
)
_LANGUAGE = re.compile(
    r"bash|c|c#|c\+\+|console|cpp|cs|css|csv|diff|go|html|ini|java|javascript|js|json|jsonl|kotlin|lua|markdown|md|perl|php|"
    r"powershell|py|pycon|python|python3|r|repl|ruby|rust|scala|sh|shell|sql|swift|text|toml|ts|tsv|txt|typescript|xml|yaml|"
    r"yml"
)
"""Of fences, as others are more than code somewhere: GitHub and Jupyter draw `mermaid`, `math` and `geojson`."""


def prose_markdown(text: str) -> str:
    """Return `text` as Markdown in which no link, no image, no HTML and no mathematics is left."""
    text = seen(text)
    if len(text) > MAX_CHARACTERS:
        return fenced(text, "text")
    return _Writer().write(_PARSER.parse(text))


def prose_html(text: str) -> str:
    """Return `text` as HTML, made of the same."""
    text = seen(text)
    if len(text) > MAX_CHARACTERS:
        return f"<pre>{_PARSER.renderer.render([_plain(text)], _PARSER.options, {})}</pre>\n"
    tokens = _PARSER.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{_level(token)}"
        if token.type == "fence":
            token.info = ""
        if token.type in ("th_open", "td_open"):
            token.attrs = {}
    return str(_PARSER.renderer.render(tokens, _PARSER.options, {}))


def _plain(text: str) -> Token:
    return Token("text", "", 0, content=text)


def _level(token: Token) -> int:
    """Return a heading's level below those of the document itself."""
    return min(6, 3 + int(token.tag[1:]))


class _Writer:
    """Writes tokens as Markdown, each block's lines behind what its lists and quotes put before them."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._prefixes: list[tuple[str, str, bool]] = []  # of a first line, of others, whether there was one
        self._numbers: list[int | None] = []
        self._rows: list[list[str]] = []

    def write(self, tokens: Sequence[Token]) -> str:
        """Return the text of `tokens`."""
        for number, token in enumerate(tokens):
            match token.type:
                case "tr_open":
                    self._rows.append([])
                case "table_close":
                    self._table()
                case "inline" if tokens[number - 1].type in ("th_open", "td_open"):
                    self._rows[-1].append(_inline(token.children or [], in_table=True))
                case "inline":
                    before = tokens[number - 1]
                    heading = "#" * _level(before) + " " if before.type == "heading_open" else ""
                    self._block(heading + _inline(token.children or [], on_one_line=bool(heading)))
                case "fence":
                    language = token.info.partition(" ")[0].lower()
                    language = language if _LANGUAGE.fullmatch(language) else ""
                    self._block(fenced(token.content, language))
                case _:
                    self._nest(token)
        return "\n".join(self._lines) + "\n" if self._lines else ""

    def _nest(self, token: Token) -> None:
        """Begin or end a list, an item of one or a quote."""
        match token.type:
            case "bullet_list_open":
                self._numbers.append(None)
            case "ordered_list_open":
                self._numbers.append(int(token.attrGet("start") or 1))
            case "bullet_list_close" | "ordered_list_close":
                self._numbers.pop()
            case "list_item_open":
                self._open_item()
            case "blockquote_open":
                self._prefixes.append(("> ", "> ", False))
            case "list_item_close" | "blockquote_close":
                self._prefixes.pop()

    def _open_item(self) -> None:
        number = self._numbers[-1]
        if number is None:
            mark = "- "
        else:
            mark = f"{number}. "
            self._numbers[-1] = min(number + 1, 999_999_999)
        self._prefixes.append((mark, " " * len(mark), False))

    def _table(self) -> None:
        header, *rows = self._rows
        self._rows = []
        self._block("\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows]))

    def _block(self, text: str) -> None:
        """Write one block and an empty line before it."""
        if self._lines:
            self._lines.append("".join(rest for _, rest, begun in self._prefixes if begun).rstrip())
        for line in text.removesuffix("\n").split("\n"):
            self._lines.append(("".join(first for first, _, _ in self._prefixes) + line).rstrip())
            self._prefixes = [(rest, rest, True) for _, rest, _ in self._prefixes]


def _inline(children: Sequence[Token], *, on_one_line: bool = False, in_table: bool = False) -> str:
    written: list[str] = []
    for token in children:
        match token.type:
            case "text" | "text_special":
                written.append(_escaped(token.content, at_start=not written or written[-1].endswith("\n")))
            case "code_inline" if in_table and "|" in token.content:
                written.append(in_markdown(token.content))  # a cell ends there for some readers, code or not
            case "code_inline":
                written.append(in_code_span(token.content))
            case "em_open" | "em_close" | "strong_open" | "strong_close":
                written.append(token.markup)
            case "softbreak":
                written.append(" " if on_one_line else "\n")
            case "hardbreak":
                written.append(" " if on_one_line else "\\\n")
    return "".join(written)


def _escaped(text: str, *, at_start: bool) -> str:
    return in_markdown(text.lstrip() if at_start else text)
