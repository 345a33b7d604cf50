"""What a kernel is told of its contexts before the first cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlm_kernel.errors import GuestProtocolError
from rlm_kernel.guest.wire import FRAME_LIMIT
from rlm_kernel.kernel.messages import KernelReadyMessage, control
from rlm_kernel.pictures import Picture
from rlm_kernel.types import JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundContext:
    """What the kernel is to bind as the variable `name`: `size` and `index_size` in bytes.

    `files` are the blob and, if there is one, its index. `picture` is what an image is.
    """

    kind: Literal["str", "files", "json", "image"]
    size: int
    index_size: int
    files: tuple[Path, ...] = ()
    name: str = "context"
    picture: Picture | None = None

    def told(self) -> dict[str, JSON]:
        """Return what the kernel is told."""
        about: dict[str, JSON] = {
            "name": self.name,
            "kind": self.kind,
            "size": self.size,
            "index_size": self.index_size,
        }
        return about | self.picture._asdict() if self.picture else about


@dataclass(frozen=True, slots=True)
class Binding:
    """All that a kernel is to bind. With `streamed` the host sends the files, else the guest finds them.

    `chunk_strategy` is what `chunk()` does where a cell does not say, `tools` are host tools as announced.
    """

    contexts: tuple[BoundContext, ...] = ()
    streamed: bool = False
    chunk_strategy: str | None = None
    tools: tuple[dict[str, JSON], ...] = ()

    def message(self) -> bytes:
        """Return the control message."""
        contexts: list[JSON] = [each.told() for each in self.contexts]
        source = "stream" if self.streamed else "file"
        tools: list[JSON] = [*self.tools]
        return control("bind", source=source, contexts=contexts, chunk_strategy=self.chunk_strategy, tools=tools)

    def pieces(self) -> Iterator[bytes]:
        """Yield what is to be streamed, in pieces of a frame."""
        for path in (path for each in self.contexts if self.streamed for path in each.files):
            with path.open("rb") as file:
                while piece := file.read(FRAME_LIMIT):
                    yield piece

    def seen(self, ready: KernelReadyMessage) -> dict[str, tuple[str, int]]:
        """Return the type and the length of each variable by name, where there are several.

        Raise `GuestProtocolError` for a guest that bound another number of them.
        """
        names = [each.name for each in self.contexts]
        if names == ["context"]:
            return {}
        if len(ready.contexts) != len(names):
            raise GuestProtocolError(f"the container bound {len(ready.contexts)} contexts, not {len(names)}")
        return dict(zip(names, ready.contexts, strict=True))
