"""Have functions of your own called for what happens in a run. No key is needed."""

import asyncio
from pathlib import Path

from rlm_kernel import RLM, Hooks
from rlm_kernel.events import AnswerGiven, KernelReady, SubcallFailed, SubcallReplied

HERE = Path(__file__).parent


def loaded(event: KernelReady) -> None:
    """Tell what the context became."""
    print(f"context is a {event.context_type} of {event.context_length}")


async def invoked(event: SubcallReplied | SubcallFailed) -> None:
    """Tell of a sub-call; hooks may be async."""
    await asyncio.sleep(0)
    print(f"sub-call {event.call} took {event.seconds:.1f} s")


def answered(event: AnswerGiven) -> None:
    """Tell the answer."""
    print(f"the answer: {event.answer}")


if __name__ == "__main__":
    scripts = HERE / "scripts"
    hooks = Hooks(variable_loaded=loaded, invoke_complete=invoked, answer=answered)
    rlm = RLM(f"scripted:{scripts / 'hooks.md'}", f"scripted:{scripts / 'hooks_sub.md'}", hooks=hooks)
    rlm.completion("Which fruit is it?", "banana")
