"""Reports of `chunk()` that no call of it made: the recording and the model are spared them."""

from __future__ import annotations

from rlm_kernel.events import CellOutput, ContextChunked
from rlm_kernel.kernel.chunked import CHUNKED_MIME, MOST_RECORDED
from tests.attacks.conftest import assert_usable, printed, run
from tests.docker.conftest import OpenSession
from tests.support.sinks import Events

REPORT = {"strategy": "lines", "chunks": 1, "characters": 1, "shortest": 1, "longest": 1, "size": 9, "overlap": 0}
FLOOD = f"""
import threading, time
publish = get_ipython().display_pub.publish
def tell(**changes):
    publish({{"{CHUNKED_MIME}": {REPORT} | changes}})
for number in range(3000):
    tell(chunks=number)
for lie in ({{"strategy": "x" * 10**5}}, {{"chunks": -1}}, {{"chunks": 2**70}}, {{"size": 1e308}}, {{"more": "y"}}):
    tell(**lie)
late = threading.Timer(0.3, lambda: [tell() for _ in range(500)])
late.start()
print("told")
"""


async def test_a_flood_of_reports_is_heard_in_part(open_test_session: OpenSession, events: Events) -> None:
    """Of one cell 100 reports are recorded, none after its end, and no lie; the session goes on."""
    async with open_test_session() as session:
        assert printed(await run(session, FLOOD)) == "told\n"
        await run(session, "late.join()")
        await assert_usable(session)
        assert printed(await run(session, "chunk = None; FINAL = None; print('replaced')")) == "replaced\n"
    told = events.of(ContextChunked)
    assert [report.chunks for report in told] == list(range(MOST_RECORDED))
    assert {report.cell for report in told} == {1}
    assert len(events.of(CellOutput)) < 20
