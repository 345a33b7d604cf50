"""Images that go along with a sub-call: found, looked at, recorded by digest, bounded."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.bridge import Bridge, Images, Offer, StoredImage
from rlm_kernel.bridge.images import MAX_BYTES_AT_ONCE, MAX_CALL_BYTES
from rlm_kernel.bridge.messages import ImageMessage
from rlm_kernel.errors import GuestProtocolError, ImagesNotTaken
from rlm_kernel.events import ImageSent, SubcallFailed, SubcallRefused, SubcallRequested
from rlm_kernel.guest.wire import Channel
from rlm_kernel.models.model import Model
from rlm_kernel.stream import Endpoint
from rlm_kernel.types import Image
from tests.support.fakes import FakeModel
from tests.support.guest import Guest, guest_and_endpoint
from tests.support.images import GIF, PNG, png
from tests.support.sinks import Events


@asynccontextmanager
async def bridged(events: Events, model: Model, images: Images) -> AsyncIterator[tuple[Guest, Endpoint]]:
    """Yield a guest while a cell runs."""
    offer = Offer({None: model}, images=images)
    async with guest_and_endpoint() as (guest, endpoint), Bridge(endpoint, offer, events, parallel=5) as bridge:
        with bridge.open_for(1):
            yield guest, endpoint


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """One image in a context called `photo`."""
    (tmp_path / "blob").write_bytes(PNG)
    return Images({"photo": stored(tmp_path / "blob", len(PNG))})


def stored(path: Path, size: int) -> StoredImage:
    """Return an image of the store."""
    return StoredImage(digest="d" * 64, media_type="image/png", size=size, path=path)


def data(image: bytes) -> dict[str, str]:
    """Return what a cell sends of an image of its own."""
    return {"data": base64.b64encode(image).decode()}


async def ask(guest: Guest, images: list[Any]) -> Any:
    """Make one call and return the answer."""
    await guest.say(Channel.SUBCALL, {"kind": "llm", "id": 1, "prompt": "what?", "images": images})
    return await guest.next(Channel.SUBCALL)


async def test_images_go_to_the_model_and_are_recorded_by_digest(images: Images) -> None:
    """One by name and one by its bytes; the media type is the bytes' own."""
    events, model = Events(), FakeModel(["a cat"])
    async with bridged(events, model, images) as (guest, _):
        assert (await ask(guest, [{"context": "photo"}, data(GIF)]))["text"] == "a cat"
    (message,) = model.requests[0].messages
    assert message.images == (Image("image/png", PNG), Image("image/gif", GIF))
    assert events.of(SubcallRequested)[0].images == [
        ImageSent(digest="d" * 64, media_type="image/png", size=len(PNG), context="photo"),
        ImageSent(digest=hashlib.sha256(GIF).hexdigest(), media_type="image/gif", size=len(GIF)),
    ]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ({"context": "other"}, "no image in a context called 'other'"),
        ({"context": "../../etc/passwd"}, "no image in a context called '../../etc/passwd'"),
        ({"context": "photo", "data": "AAAA"}, "no image in a context called 'photo'"),
        ({"data": "!!"}, "no base64"),
        ({}, "no PNG, JPEG, GIF or WebP"),
        (data(b"%PDF-1.7" + PNG), "no PNG, JPEG, GIF or WebP"),
        (data(png(60_000, 60_000)), "claims 60,000 x 60,000 pixels"),
    ],
)
async def test_what_is_no_image_is_refused(images: Images, image: dict[str, str], says: str) -> None:
    """In words for the cell, and no model is asked."""
    events, model = Events(), FakeModel([])
    async with bridged(events, model, images) as (guest, _):
        assert says in (await ask(guest, [data(PNG), image]))["error"]["message"]
    assert says in events.of(SubcallRefused)[0].reason
    assert model.requests == []


@pytest.mark.parametrize("image", [{"path": "/etc/passwd"}, {"data": "", "media_type": "text/html"}, "photo", 7])
async def test_a_malformed_image_ends_the_session(images: Images, image: Any) -> None:
    """There is no field by which a guest could name a file or a type; nor may there be more than twenty images."""
    for sent in ([image], [{"context": "photo"}] * 21):
        async with bridged(Events(), FakeModel([]), images) as (guest, endpoint):
            await guest.say(Channel.SUBCALL, {"kind": "llm", "id": 1, "prompt": "what?", "images": sent})
            assert isinstance(await endpoint.lost, GuestProtocolError)


async def test_a_model_that_sees_nothing_says_so(images: Images) -> None:
    """The cell is told why, in other words than those for a prompt that is too long."""
    events = Events()
    async with bridged(events, FakeModel([ImagesNotTaken("local:x takes no images")]), images) as (guest, _):
        answer = await ask(guest, [{"context": "photo"}])
    assert answer["error"]["message"] == "the model takes no images (ImagesNotTaken)"
    assert events.of(SubcallFailed)[0].error == "ImagesNotTaken"


async def test_images_on_their_way_are_bounded(tmp_path: Path) -> None:
    """Few large ones are read at once, however many calls name them; one call's have a bound too."""
    (tmp_path / "blob").write_bytes(PNG)
    size = MAX_CALL_BYTES
    images = Images({"large": stored(tmp_path / "blob", size)})
    held = most = 0

    async def one() -> None:
        nonlocal held, most
        async with images.loaded([ImageMessage(context="large")]) as loaded:
            assert len(loaded) == 1
            held += 1
            most = max(most, held)
            await asyncio.sleep(0.001)
            held -= 1

    calls = [asyncio.ensure_future(one()) for _ in range(20)]
    await asyncio.sleep(0)
    calls[10].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert most == MAX_BYTES_AT_ONCE // size
    assert [call.cancelled() for call in calls].count(True) == 1
    with pytest.raises(ValueError, match="bytes together"):
        images.described([ImageMessage(context="large")] * 2)
