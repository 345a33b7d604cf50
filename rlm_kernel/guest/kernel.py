"""The kernel process: it closes doors behind itself, joins the link, then loads IPython and waits for cells."""

import gc
import json
import os
import sys
from typing import Any

from . import chunks, names
from .cancel import CELL
from .doors import close_doors
from .link import Link
from .subcalls import Subcalls
from .wire import Channel

_LOAD_ERRORS = (OSError, ValueError, KeyError, TypeError, MemoryError, RecursionError)


class Guest:
    """The kernel's relation to the relay: binds the context and passes sub-calls."""

    def __init__(self) -> None:
        self.link = Link(
            int(os.environ.pop("RLM_LINK")), {Channel.CONTROL: self._control, Channel.SUBCALL: self._reply}
        )
        self.subcalls = Subcalls(self._send_subcall, int(os.environ.pop("RLM_GENERATION")))
        self.variables = names.attach(self.subcalls)
        self.link.start()

    def tell(self, kind: str, **fields: Any) -> None:
        """Send the relay a control message."""
        self.link.send(Channel.CONTROL, json.dumps({"type": kind, **fields}).encode())

    def _send_subcall(self, payload: bytes) -> None:
        self.link.send(Channel.SUBCALL, payload)

    def _reply(self, payload: bytes) -> None:
        self.subcalls.resolve(payload)

    def _control(self, payload: bytes) -> None:
        message = json.loads(payload)
        if message["type"] == "cancel":
            CELL.cancel(message["cell"])
        else:
            self._bind(message)

    def _bind(self, bind: dict[str, Any]) -> None:
        from .context import load_context  # noqa: PLC0415  loads while IPython does

        try:
            contexts = {context["name"]: load_context(context) for context in bind["contexts"]}
        except _LOAD_ERRORS as error:
            self.tell("bind_failed", message=f"the context can't be loaded: {error!r}"[:2000])
            return
        names.bind(contexts)
        if bind.get("tools"):
            from .tools import ToolError, offered  # noqa: PLC0415  for those who have tools

            names.offer({"ToolError": ToolError, **offered(bind["tools"])})
        chunks.set_strategy(bind.get("chunk_strategy"))
        kind, length = _measure(self.variables["context"])
        self.tell("bound", context_type=kind, context_length=length, contexts=[*map(_measure, contexts.values())])


def _measure(value: Any) -> tuple[str, int]:
    return type(value).__name__, len(value) if hasattr(value, "__len__") else 0


def main() -> None:
    """Run the kernel until it is killed."""
    close_doors()
    gc.disable()  # nothing that loads now is garbage; `run` turns it on
    guest = Guest()
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # ipykernel loads it, and its threads, where it can
    from .app import run  # noqa: PLC0415  the link and the context are at work meanwhile

    seed = os.environ.pop("RLM_SEED", None)
    run(guest.variables, guest.tell, None if seed is None else int(seed))


if __name__ == "__main__":
    main()
