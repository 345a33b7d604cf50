"""Parts as GitHub-flavoured Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import singledispatch

from rlm_kernel.export.parts import Block, Close, CodeCell, Heading, Open, Part, Prose, Table, Words
from rlm_kernel.export.prose import prose_markdown
from rlm_kernel.export.shown import Display, Failure, Picture, Shown, Stream
from rlm_kernel.export.text import fenced, in_html_of_notebooks, in_markdown, one_line, printed, seen
from rlm_kernel.export.told import STATUSES, duration


def write_markdown(parts: Iterable[Part], write: Callable[[str], object]) -> None:
    """Write a document, part by part."""
    for part in parts:
        write(as_markdown(part))
        write("\n")


@singledispatch
def as_markdown(part: Part) -> str:
    """Return a part as Markdown that ends with a newline; no text in it is more than text."""
    raise TypeError(f"{type(part).__name__} is no part")


@as_markdown.register
def _(part: Heading) -> str:
    return f"{'#' * part.level} {in_markdown(one_line(part.text))}\n"


@as_markdown.register
def _(part: Words) -> str:
    text = in_markdown(one_line(part.text))
    return f"**Note:** {text}\n" if part.alarm else f"{text}\n"


@as_markdown.register
def _(part: Prose) -> str:
    return prose_markdown(part.text)


@as_markdown.register
def _(part: Block) -> str:
    return _block(part.title, seen(part.text), part.language)


@as_markdown.register
def _(part: Table) -> str:
    header = [in_markdown(one_line(cell)) for cell in part.header]
    rows = [[in_markdown(one_line(cell)) for cell in row] for row in part.rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, ["---"] * len(header), *rows])


@as_markdown.register
def _(part: Open) -> str:
    return f"<details><summary>{in_summary(part.summary)}</summary>\n"


@as_markdown.register
def _(part: Close) -> str:
    return "</details>\n"


@as_markdown.register
def _(part: CodeCell) -> str:
    how = f"{STATUSES[part.status]} after {duration(part.seconds)}" if part.status else "no end"
    blocks = [_block(f"Cell {part.number} ({how})", seen(part.code), "python")]
    return "\n".join(blocks + [_output(output) for output in part.outputs])


def in_summary(text: str) -> str:
    """Escape the text of a summary, which is HTML on one line."""
    return in_html_of_notebooks(one_line(text))


def left_out(output: Display) -> list[str]:
    """Return what a text format can't show of an output."""
    return [*output.left_out, *(["image/svg+xml, left out"] if output.svg is not None else [])]


def _block(title: str, text: str, language: str) -> str:
    return (f"**{in_markdown(one_line(title))}**\n\n" if title else "") + fenced(text, language)


def _output(output: Shown) -> str:
    match output:
        case Stream():
            return _block("Errors and warnings" if output.name == "stderr" else "Output", printed(output.text), "text")
        case Failure():
            traceback = "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
            return _block(f"Error {output.ename}", seen(traceback), "text")
        case Display():
            return "\n".join(_display(output))


def _display(output: Display) -> list[str]:
    """Return the richest form that there is, and a word for each that is left out."""
    blocks = [_picture(picture) for picture in output.pictures]
    if output.table is not None:
        blocks.append(f"{output.table}\n")
    elif output.markdown is not None:
        blocks.append(prose_markdown(output.markdown))
    elif output.text is not None and not blocks:
        blocks.append(_block("Result" if output.is_result else "Display", printed(output.text), "text"))
    return blocks + [f"{in_markdown(one_line(word))}\n" for word in left_out(output)]


def _picture(picture: Picture) -> str:
    return f"![image](data:{picture.media_type};base64,{picture.data})\n"
