"""Ask about a folder, asynchronously, and watch the events of the run. No key is needed."""

import asyncio
from pathlib import Path

from rlm_kernel import RLM
from rlm_kernel.events import AnyEvent, CellFinished, SubcallReplied

HERE = Path(__file__).parent


class Watcher:
    """Prints cells and sub-calls as they end; an event sink is any object with this method."""

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Take one event."""
        if isinstance(event, CellFinished):
            print(f"cell {event.cell}: {event.status} after {event.seconds:.1f} s")
        elif isinstance(event, SubcallReplied):
            print(f"sub-call: {event.text}")


async def main() -> None:
    """Print the answer."""
    scripts = HERE / "scripts"
    rlm = RLM(
        model=f"scripted:{scripts / 'ask_a_folder.md'}",
        sub_model=f"scripted:{scripts / 'ask_a_folder_sub.md'}",
        on_event=Watcher(),
    )
    result = await rlm.acompletion("Which example is about a folder?", scripts.parent)
    print(result.answer)


if __name__ == "__main__":
    asyncio.run(main())
