"""Parts as one HTML page that holds all it shows: no script, nothing is fetched, no link."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from functools import singledispatch

from rlm_kernel.export.parts import Block, Close, CodeCell, Heading, Open, Part, Prose, Table, Words
from rlm_kernel.export.prose import prose_html
from rlm_kernel.export.shown import Display, Failure, Picture, Shown, Stream
from rlm_kernel.export.text import in_html, one_line, printed, seen
from rlm_kernel.export.told import STATUSES, duration

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --code: #8881; --alarm: #c33; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.3rem; } h3 { font-size: 1.1rem; }
h2, h3 { margin-top: 2rem; border-bottom: 1px solid var(--line); }
pre { background: var(--code); padding: .6rem .8rem; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 13px/1.45 ui-monospace, monospace; }
pre.code { border-left: 4px solid #48c; } pre.stderr, pre.error { border-left: 4px solid var(--alarm); }
h4, h5, h6 { font-size: 1rem; margin: 1rem 0 .5rem; }
table { margin: .8rem 0; border-collapse: collapse; display: block; overflow-x: auto; font-size: .9rem; }
th, td { border: 1px solid var(--line); padding: .2rem .6rem; text-align: left; overflow-wrap: anywhere; }
details { border: 1px solid var(--line); border-radius: 6px; padding: .3rem .8rem; margin: .5rem 0; }
summary { cursor: pointer; overflow-wrap: anywhere; } img { max-width: 100%; background: #fff; }
.alarm { color: var(--alarm); font-weight: 600; } .title { margin: .8rem 0 -.6rem; font-size: .85rem; opacity: .8; }
.said { opacity: .85; font-size: .9rem; overflow-wrap: anywhere; }
"""
_POLICY = "; ".join(
    [
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)


def write_page(title: str, parts: Iterable[Part], write: Callable[[str], object]) -> None:
    """Write a page, part by part."""
    write(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{in_html(_POLICY)}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{in_html(one_line(title))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    )
    for part in parts:
        write(as_html(part))
    write("</body>\n</html>\n")


@singledispatch
def as_html(part: Part) -> str:
    """Return a part as HTML; no text in it is more than text."""
    raise TypeError(f"{type(part).__name__} is no part")


@as_html.register
def _(part: Heading) -> str:
    return f"<h{part.level}>{in_html(one_line(part.text))}</h{part.level}>\n"


@as_html.register
def _(part: Words) -> str:
    return f'<p class="{"alarm" if part.alarm else "said"}">{in_html(one_line(part.text))}</p>\n'


@as_html.register
def _(part: Prose) -> str:
    return prose_html(part.text)


@as_html.register
def _(part: Block) -> str:
    return _block(part.title, seen(part.text))


@as_html.register
def _(part: Table) -> str:
    rows = [("th", part.header), *(("td", row) for row in part.rows)]
    written = "".join(
        f"<tr>{''.join(f'<{tag}>{in_html(one_line(cell))}</{tag}>' for cell in row)}</tr>\n" for tag, row in rows
    )
    return f"<table>\n{written}</table>\n"


@as_html.register
def _(part: Open) -> str:
    return f"<details><summary>{in_html(one_line(part.summary))}</summary>\n"


@as_html.register
def _(part: Close) -> str:
    return "</details>\n"


@as_html.register
def _(part: CodeCell) -> str:
    how = f"{STATUSES[part.status]} after {duration(part.seconds)}" if part.status else "no end"
    code = _block(f"Cell {part.number} ({how})", seen(part.code), "code")
    return code + "".join(_output(output) for output in part.outputs)


def _block(title: str, text: str, kind: str = "text") -> str:
    words = f'<p class="title">{in_html(one_line(title))}</p>\n' if title else ""
    # A newline right behind the tag is none to HTML: without this one the text's own first would be lost.
    return f'{words}<pre class="{kind}">\n{in_html(text)}</pre>\n'


def _output(output: Shown) -> str:
    match output:
        case Stream():
            return _block("", printed(output.text), output.name)
        case Failure():
            traceback = "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
            return _block(f"Error {output.ename}", seen(traceback), "error")
        case Display():
            return _display(output)


def _display(output: Display) -> str:
    written = [_picture(picture) for picture in output.pictures]
    if output.svg is not None:
        # an image runs no script of its source and fetches nothing
        source = base64.b64encode(output.svg.encode()).decode()
        written.append(f'<p><img alt="image" src="data:image/svg+xml;base64,{source}"></p>\n')
    if output.table is not None:
        written.append(f"{output.table}\n")
    elif output.markdown is not None:
        written.append(prose_html(output.markdown))
    elif output.text is not None and not written:
        written.append(_block("", printed(output.text)))
    written += [f'<p class="said">{in_html(one_line(word))}</p>\n' for word in output.left_out]
    return "".join(written)


def _picture(picture: Picture) -> str:
    size = "".join(f' {side}="{value}"' for side, value in _sides(picture) if value)
    return f'<p><img alt="image" src="data:{picture.media_type};base64,{picture.data}"{size}></p>\n'


def _sides(picture: Picture) -> list[tuple[str, int | None]]:
    return [("width", picture.width), ("height", picture.height)]
