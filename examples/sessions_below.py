"""Have a session of its own read each chapter, and show who did what. No key is needed."""

from pathlib import Path

from rlm_kernel import RLM, Settings
from rlm_kernel.events import AnyEvent, RunFinished
from rlm_kernel.types import JSON

SCRIPT = Path(__file__).parent / "scripts" / "sessions_below.md"


class Watcher:
    """Prints the end of each session; `node` is the sub-call that it answers, or nothing for the run's own."""

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Take one event."""
        if isinstance(event, RunFinished):
            print(f"{node or 'the run'}: {event.answer}")


settings = Settings(model=f"scripted:{SCRIPT}", max_depth=1, max_sessions=2)
chapters: JSON = ["It rained. It rained on. Then it stopped.", "The sun came out."]
with RLM(settings=settings, on_event=Watcher()) as rlm:
    rlm.completion("How many sentences has each chapter?", chapters)
