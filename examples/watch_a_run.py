"""Watch a run's events while it goes on, and cancel it once enough is seen. No key is needed."""

import asyncio
from pathlib import Path

from rlm_kernel import RLM
from rlm_kernel.errors import RunCancelled
from rlm_kernel.events import CellFinished, CellOutput

HERE = Path(__file__).parent


async def main() -> None:
    """Print what the cells say, up to the third cell's end."""
    rlm = RLM(model=f"scripted:{HERE / 'scripts' / 'watch_a_run.md'}")
    async with rlm, rlm.start("What is in here?", "one two three") as run:
        async for event in run:
            if isinstance(event, CellOutput):
                print(event.output["text"], end="")
            elif isinstance(event, CellFinished) and event.cell == 3:
                run.cancel()
        try:
            await run.result()
        except RunCancelled as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
