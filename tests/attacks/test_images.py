"""Images that a cell makes up: what it says of them counts for nothing."""

from __future__ import annotations

from rlm_kernel.events import SubcallRequested
from tests.attacks.conftest import assert_usable, printed, run
from tests.docker.conftest import OpenSession
from tests.support.fakes import FakeModel
from tests.support.images import PNG
from tests.support.sinks import Events


async def test_hostile_images(open_test_session: OpenSession, events: Events) -> None:
    """What a cell makes of its images reaches no file of the host and no model, and the session lives on."""
    model = FakeModel([])
    code = """told = []
context.data = b"<script>"; context._name = "../../../etc/passwd"; context.media_type = "text/html"
png = b"\\x89PNG\\r\\n\\x1a\\n"
for image in (context, b"<html>", png, png + b"\\0" * 5_000_000, bytearray(b"GIF89a")):
    try: llm_query("what?", images=[image])
    except LLMQueryError as error: told.append(str(error))
for images in ([b"x" * 8_000_000], ["/etc/passwd"], context, [context] * 21, [None]):
    try: llm_query("what?", images=images)
    except (TypeError, ValueError) as error: told.append(str(error))
print(len(told)); context = "context"
"""
    async with open_test_session(PNG, models={None: model}) as session:
        assert printed(await run(session, code)) == "10\n"
        await assert_usable(session)
    assert model.requests == []
    assert events.of(SubcallRequested) == []
