"""Images as contexts in real sessions, on both carriers."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from rlm_kernel import RLM, Contexts, Settings
from rlm_kernel.errors import ContextBinary
from rlm_kernel.events import ContextStored, ModelRequested, SubcallRequested
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.spec import Carrier
from rlm_kernel.types import Image
from tests.attacks.conftest import printed, run
from tests.docker.conftest import OpenSession
from tests.docker.test_rlm import cell, script, settings
from tests.support.fakes import FakeModel
from tests.support.images import GIF, JPEG, PNG
from tests.support.provider_server import ProviderServer, Reply
from tests.support.sinks import Events

__all__ = ["settings"]


async def test_an_image_is_a_variable_and_goes_to_the_model(
    open_test_session: OpenSession, carrier: Carrier, events: Events, tmp_path: Path
) -> None:
    """By reference where it is a context, as bytes where a cell made it; a rebuilt kernel gets the same answers."""
    (tmp_path / "photo.jpg").write_bytes(JPEG)
    model = FakeModel(["a cat", "two"])
    given = Contexts(photo=tmp_path / "photo.jpg", note="text")
    async with open_test_session(given, carrier=carrier, models={None: model}, rebuild=True) as session:
        shown = printed(await run(session, "print(photo, photo.data[:3], context['photo'] is photo)"))
        assert shown == f"<Image image/jpeg, 3000 x 17 pixels, {len(JPEG)} bytes> b'\\xff\\xd8\\xff' True\n"
        await run(session, "a = llm_query('what?', images=[photo])")
        await run(session, f"b = llm_query_batched(['how many?'], images=[[{GIF!r}, photo]])[0]")
        assert "a" in (await run(session, "import os; os._exit(1)")).rebuilt
        assert printed(await run(session, "print(a, b)")) == "a cat two\n"
    asked = [request.messages[0].images for request in model.requests]
    jpeg = Image("image/jpeg", JPEG)
    assert asked == [(jpeg,), (Image("image/gif", GIF), jpeg)]
    assert [[image.context for image in event.images] for event in events.of(SubcallRequested)] == [
        ["photo"],
        [None, "photo"],
    ]


async def test_a_run_about_an_image(settings: Settings, tmp_path: Path, events: Events) -> None:
    """The root model is told what it is and how to show it; a sub-model that sees nothing says so in the cell."""
    code = "try: llm_query('what?', images=[context])\nexcept LLMQueryError as error: FINAL(str(error))"
    models = script(tmp_path, cell(code)), script(tmp_path, "unseen")
    async with RLM(*models, settings=settings, on_event=events) as rlm:
        result = await rlm.acompletion("What is it?", PNG)
    assert result.answer == "the model takes no images (ImagesNotTaken)"
    said = events.of(ModelRequested)[0].messages[-1].content
    assert f"`context` is an image (image/png, 1 x 1 pixels, {len(PNG)} bytes)" in said
    assert "`llm_query(prompt, images=[context])`" in said
    assert events.of(ContextStored)[0].kind == "image"


async def test_a_provider_is_sent_the_image(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    """From a file on the host to the body of the provider's request, in its shape; recorded is the digest alone."""
    (tmp_path / "scan.png").write_bytes(PNG)
    code = "FINAL(llm_query('what?', images=[scan]))"
    async with ProviderServer(lambda body: Reply(text="a dot")).run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        async with RLM(script(tmp_path, cell(code)), "vllm:m", settings=settings, on_event=events) as rlm:
            result = await rlm.acompletion("What is it?", Contexts(scan=tmp_path / "scan.png", note="text"))
    assert result.answer == "a dot"
    encoded = base64.b64encode(PNG).decode()
    assert f"data:image/png;base64,{encoded}" in server.requests[0].raw.decode()
    recording = (result.recording / "events.jsonl").read_text()
    assert hashlib.sha256(PNG).hexdigest() in recording
    assert encoded not in recording


def test_an_image_that_can_not_be_a_context(tmp_path: Path) -> None:
    """It is refused in words; a file that only begins like one too, and one that was stored is known again."""
    store = ContextStore(tmp_path / "contexts", settle_seconds=-1)
    (tmp_path / "broken.png").write_bytes(PNG[:20])
    with pytest.raises(ContextBinary, match=r"broken.png can't be a context: it ends within its header"):
        store.put_path(tmp_path / "broken.png")
    (tmp_path / "fine").write_bytes(PNG)
    stored = store.put_path(tmp_path / "fine")
    assert store.put_path(tmp_path / "fine") == stored
    assert (stored.kind, stored.picture, stored.path.read_bytes()) == ("image", ("image/png", 1, 1), PNG)
