"""Exports of hostile runs in a real browser, with every fold open: nothing runs, nothing is fetched."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.attacks.test_exports import events_of, write
from tests.support.markup import TEXTS
from tests.unit.export.conftest import exported

pytestmark = pytest.mark.soak
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def fetched() -> Iterator[tuple[str, list[str]]]:
    """An address, and what was asked for there."""
    asked: list[str] = []

    class Canary(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base's name
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Canary) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/canary", asked
        server.shutdown()
        thread.join()


def opened(page: Path, profile: Path) -> str:
    """Open a page in a browser and return the document as it is then."""
    assert BROWSER is not None
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
    ]
    command = [BROWSER, *flags, f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium here: apt-get install chromium")
@pytest.mark.parametrize("form", ["html", "md", "raw"])
def test_nothing_runs_and_nothing_is_fetched(tmp_path: Path, fetched: tuple[str, list[str]], form: str) -> None:
    """In the page, and in the Markdown rendered with HTML allowed; the same texts as they are do both."""
    address, asked = fetched
    texts = [text.replace("CANARY", address) for text in TEXTS]
    page = tmp_path / "page.html"
    if form == "raw":
        page.write_text("".join(f"<div>{text}</div>\n" for text in texts[:4]))
    else:
        path = write(tmp_path, "hostile.jsonl", [*events_of("\n\n".join(texts))])
        written = exported(path, form)  # type: ignore[arg-type]
        rendered = (
            written if form == "html" else MarkdownIt("commonmark", {"html": True}).enable("table").render(written)
        )
        page.write_text(rendered.replace("<details>", "<details open>"))
    document = opened(page, tmp_path / "profile")
    assert ("pwned</title>" in document or bool(asked)) == (form == "raw")
    assert bool(asked) == (form == "raw")
