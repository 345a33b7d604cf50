"""Following a recording while it is written."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from rlm_kernel.errors import RecordingDamaged, RecordingError
from rlm_kernel.events import Notice
from rlm_kernel.recording import Following, RecordingLog, Tee, new_run_id
from rlm_kernel.recording.following import BATCH_BYTES, BATCH_RECORDS


@pytest.fixture
async def following() -> Following:
    """Made in the loop of its readers."""
    return Following()


async def read(following: Following) -> list[str]:
    """Return the messages of a whole recording."""
    return [record.event.message async for record in following.records() if isinstance(record.event, Notice)]


async def test_every_reader_gets_everything_in_order(following: Following, tmp_path: Path) -> None:
    """Early and late readers, while events come from a thread, in more than one batch."""
    with RecordingLog(tmp_path, new_run_id()) as log:
        sink = Tee(log, following)
        early = asyncio.ensure_future(read(following))
        await asyncio.sleep(0)
        following.begin(log.path)
        messages = [f"event {number}" for number in range(3 * BATCH_RECORDS)]

        def write() -> None:
            for text in messages:
                sink.emit(Notice(message=text))

        thread = threading.Thread(target=write)
        thread.start()
        middle = asyncio.ensure_future(read(following))
        await asyncio.to_thread(thread.join)
        following.end()
        assert await early == await middle == await read(following) == messages


async def test_a_slow_reader_holds_one_batch(following: Following, tmp_path: Path) -> None:
    """A reader that does not go on neither stops the writer nor makes the events wait in memory."""
    with RecordingLog(tmp_path, new_run_id()) as log:
        following.begin(log.path)
        sink = Tee(log, following)
        reader = following.records()
        sink.emit(Notice(message="first"))
        await anext(reader)
        for _ in range(20):
            sink.emit(Notice(message="x" * BATCH_BYTES))
        following.end()
        assert len([record async for record in reader]) == 20


async def test_a_line_that_is_being_written_is_read_when_it_is_whole(following: Following, tmp_path: Path) -> None:
    """Half a line is none yet."""
    with RecordingLog(tmp_path, new_run_id()) as log:
        log.emit(Notice(message="one"))
        line = log.path.read_bytes()
    path = tmp_path / "half.jsonl"
    path.write_bytes(line[:20])
    following.begin(path)
    reader = asyncio.ensure_future(read(following))
    await asyncio.to_thread(lambda: None)
    path.write_bytes(line)
    following.emit(Notice(message="one"))
    following.end()
    assert await reader == ["one"]


async def test_without_a_recording_there_is_nothing(following: Following) -> None:
    """A run that ended before it was recorded has no events."""
    reader = asyncio.ensure_future(read(following))
    await asyncio.sleep(0)
    following.end()
    assert await reader == []


async def test_damage_is_told(following: Following, tmp_path: Path) -> None:
    """A line that is no record is an error, as for any reader."""
    path = tmp_path / "damaged.jsonl"
    path.write_text("{}\n")
    following.begin(path)
    with pytest.raises(RecordingDamaged):
        await read(following)


async def test_a_recording_that_is_not_kept(following: Following, tmp_path: Path) -> None:
    """Who began in time reads it to its end; later it is gone, which is said."""
    with RecordingLog(tmp_path, new_run_id(), keep=False) as log:
        following.begin(log.path)
        log.emit(Notice(message="one"))
        log.emit(Notice(message="two"))
        reader = following.records()
        await anext(reader)
    following.end()
    assert len([record async for record in reader]) == 1
    with pytest.raises(RecordingError, match="is gone: keep it, or follow earlier"):
        await read(following)
