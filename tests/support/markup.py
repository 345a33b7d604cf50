"""Texts that would run, fetch or break out if a document took them for more than text, and what a document may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

CANARY = "http://127.0.0.1:9/canary"
"""What a document would fetch."""

TEXTS = [
    "<script>document.title='pwned';fetch('CANARY')</script>",
    "</script><script>document.title='pwned'</script>",
    "<img src=x onerror=\"document.title='pwned'\">",
    "<img src='CANARY'>",
    "<svg/onload=document.title='pwned'>",
    "<svg><script>document.title='pwned'</script></svg>",
    "<iframe srcdoc='<script>parent.document.title=`pwned`</script>'></iframe>",
    "<iframe src=CANARY></iframe>",
    "<details open ontoggle=document.title='pwned'>",
    "<a href=\"javascript:document.title='pwned'\">x</a>",
    "<math><mtext><table><mglyph><style><!--</style>"
    "<img title=\"--&gt;&lt;img src=1 onerror=document.title='pwned'&gt;\">",
    "<noscript><p title=\"</noscript><img src=x onerror=document.title='pwned'>\">",
    "<meta http-equiv=refresh content='0;url=CANARY'>",
    "<link rel=stylesheet href=CANARY><style>@import 'CANARY';body{background:url(CANARY)}</style>",
    "<base href=CANARY><form action=CANARY><button autofocus onfocus=document.title='pwned'>",
    "<object data=CANARY></object><embed src=CANARY>",
    "<video src=CANARY autoplay></video><audio src=CANARY></audio>",
    "\"><img src=x onerror=document.title='pwned'>",
    "' onmouseover='document.title=1",
    "-->\n<script>document.title='pwned'</script>",
    "]]><script>document.title='pwned'</script>",
    "![x](CANARY)",
    "![x][r]\n\n[r]: CANARY",
    "[x](javascript:document.title='pwned')",
    "[x](<javascript:document.title='pwned'>)",
    "[x][r]\n\n[r]: javascript:document.title='pwned'",
    "<javascript:document.title='pwned'>",
    "<CANARY>",
    "[![x](CANARY)](CANARY)",
    "\\![x](CANARY) \\\\![x](CANARY) \\\\\\![x](CANARY)",
    "`![x](CANARY)",
    "``` ![x](CANARY) ```",
    "```\n\n![x](CANARY)\n<script>document.title='pwned'</script>\n```",
    "````\n```\n`````\n<script>document.title='pwned'</script>\n``````````\n![x](CANARY)",
    "~~~\n<script>document.title='pwned'</script>\n~~~\n![x](CANARY)",
    "```python\nx = '''\n```\n<img src=CANARY>\n```\n'''\n```",
    "</pre></code></details></summary></td></table>\n\n![x](CANARY)\n\n<script>document.title='pwned'</script>",
    '```mermaid\ngraph TD\n  A["<img src=CANARY>"]\n  click A href "CANARY"\n```\n\n~~~ MERMAID x\nx\n~~~',
    '```math\n\\href{CANARY}{x}\n```\n\n```geojson\n{"type": "Point"}\n```\n\n```{=html}\nx\n```',
    "- x\n\n      ![x](CANARY)\n\n  ![x](CANARY)\n\n1. ![x](CANARY)\n> ![x](CANARY)",
    "| a | b |\n|---|---|\n| ![x](CANARY) | <img src=CANARY> |",
    "`a` | b\n:-: | -\n`\\\\|![x](CANARY)` | \\\\\\| ![x](CANARY)\n`x | ![x](CANARY)` | <img src=CANARY>\n| $x$ \\\\ |",
    "|\n:-:\n`![x](CANARY)|`",
    "# ![x](CANARY)\n\n![x](CANARY)\n===\n",
    "$\\href{javascript:document.title='pwned'}{x}$ $$\\style{background:url(CANARY)}{x}$$ \\(\\href{CANARY}{x}\\)",
    "$<img src=x onerror=document.title='pwned'>$ $$</span><script>document.title='pwned'</script>$$",
    "@@0@@ @@1@@ ~D~T$ \\begin{x}<img src=CANARY>\\end{x}",
    "{{ 7*7 }} {% raw %} ${7*7} <%= 7 %>",
    "&lt;script&gt;document.title='pwned'&lt;/script&gt; &#60;img src=CANARY&#62; &NewLine;&Tab;",
    "\x00<script\x00>document.title='pwned'</script> \x1b]8;;CANARY\x07x\x1b]8;;\x07 \x1b[31m",
    "\u202e<script>\u2066document.title\u2069 \u200f \u061c",
    "<ScRiPt\n>document.title='pwned'</sCrIpT\t>",
    "<!--[if gte IE 4]><script>document.title='pwned'</script><![endif]-->",
    "<xmp><textarea><title><plaintext>",
    "<?php x ?><![CDATA[ x ]]><!DOCTYPE x [<!ENTITY e SYSTEM 'CANARY'>]>",
    "   \n\t\n    <script>document.title='pwned'</script>",
    "a\n\n***\n\n---\n\n- - -\n\n    ![x](CANARY)",
    "*a **b ![x](CANARY)* c** _d_ ~~e~~ <b>",
    "www.canary.example http://127.0.0.1:9/x mailto:a@b.c attachment:x.png",
]
ALL = [text.replace("CANARY", CANARY) for text in TEXTS]

TAGS = frozenset(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "p",
        "pre",
        "code",
        "strong",
        "em",
        "ul",
        "ol",
        "li",
        "blockquote",
        "table",
        "thead",
        "tbody",
        "tfoot",
        "caption",
        "tr",
        "th",
        "td",
        "b",
        "i",
        "br",
        "details",
        "summary",
        "img",
        "s",
        "span",
    ]
)
_ATTRIBUTES = {
    ("meta", "charset"): r"utf-8",
    ("meta", "http-equiv"): r"Content-Security-Policy",
    ("meta", "name"): r"viewport|referrer",
    ("meta", "content"): r"default-src 'none'; style-src 'sha256-[\w+/=]+'; img-src data:; base-uri 'none'; "
    r"form-action 'none'|width=device-width, initial-scale=1|no-referrer",
    ("html", "lang"): r"en",
    ("p", "class"): r"alarm|said|title",
    ("pre", "class"): r"text|code|stdout|stderr|error",
    ("code", "class"): r"language-(?:text|python|repl|json|sql)",
    ("ol", "start"): r"\d{1,9}",
    ("img", "alt"): r"image",
    ("img", "src"): r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]*",
    ("img", "width"): r"\d+",
    ("img", "height"): r"\d+",
    ("th", "style"): r"text-align:left",
}
VOID = frozenset(["meta", "img", "br"])


class _Checked(HTMLParser):
    """Gathers what a page may not hold."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.opened: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.wrong.append(f"<{tag}>")
        self.wrong += [
            f"<{tag} {name}={value!r}>"
            for name, value in attrs
            if not re.fullmatch(_ATTRIBUTES.get((tag, name), r"(?!)"), value or "")
        ]
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return  # of `<br />`
        if not self.opened or self.opened.pop() != tag:
            self.wrong.append(f"</{tag}>")

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"<!--{data}-->")

    def handle_pi(self, data: str) -> None:
        self.wrong.append(f"<?{data}>")

    def unknown_decl(self, data: str) -> None:
        self.wrong.append(f"<![{data}")


def not_inert(page: str) -> Iterator[str]:
    """Yield each tag, attribute or end in HTML that no document of ours has, or that has no partner."""
    parser = _Checked()
    parser.feed(page)
    parser.close()
    yield from parser.wrong
    yield from (f"<{tag}> without its end" for tag in parser.opened)
