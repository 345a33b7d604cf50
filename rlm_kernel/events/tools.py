"""Events of host tools, which cells call and which run on the host."""

from __future__ import annotations

from rlm_kernel.events.base import Event


class ToolRequested(Event, frozen=True, kw_only=True):
    """A cell called a host tool and the host took the call. `arguments` is the JSON text that the cell sent."""

    call: str
    cell: int
    tool: str
    arguments: str


class ToolReplied(Event, frozen=True, kw_only=True):
    """A tool's result, as the JSON text that the cell is given."""

    call: str
    result: str
    seconds: float


class ToolFailed(Event, frozen=True, kw_only=True):
    """A tool call without a result: `error` and `message` are the host's, `code` and `told` what the guest was told."""

    call: str
    code: str
    error: str
    message: str
    seconds: float
    told: str


class ToolRefused(Event, frozen=True, kw_only=True):
    """A tool call that the host did not take; the fields are as those of `SubcallRefused`."""

    call: str
    cell: int | None
    tool: str
    reason: str
    arguments: str
    arguments_length: int
