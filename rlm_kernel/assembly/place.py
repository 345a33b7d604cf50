"""`Place`: where a session stands in its run, and what it may use there; all of it is the host's to decide."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from rlm_kernel.assembly.cells import Cells
from rlm_kernel.assembly.models import Models
from rlm_kernel.assembly.parts import controller_limits, session_spec
from rlm_kernel.assembly.prompting import listener, root_profile, subcall_characters
from rlm_kernel.assembly.rerun.played import PlayedSession
from rlm_kernel.assembly.run import Run
from rlm_kernel.bridge import Models as Offered
from rlm_kernel.config import Settings
from rlm_kernel.controller import Controller
from rlm_kernel.events import EventSink, TreeSink
from rlm_kernel.models.model import OnText
from rlm_kernel.recording import AtNode
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.session import Seat, SlotPool, open_session
from rlm_kernel.tools import Toolbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A session of the run `root`: the run's own, or the one that answers the sub-call which `node` leads to.

    `settings`, `store`, `slots`, `sink` and `tools` are the whole run's; `seat`, whose depth is the session's, and
    `models` are the session's own, and `on_text` is what takes its root model's replies as they come.
    `stop_first` is as for `Cells`. `played` leads a session that goes on from a recorded one.
    """

    root: str
    settings: Settings
    store: ContextStore
    slots: SlotPool
    sink: TreeSink
    seat: Seat
    models: Models
    tools: Toolbox
    node: str = ""
    on_text: OnText | None = None
    stop_first: bool = False
    played: PlayedSession | None = None

    @property
    def run(self) -> str:
        """What names this session among all."""
        return f"{self.root}/{self.node}" if self.node else self.root

    @property
    def own_sink(self) -> EventSink:
        """Where this session's events go."""
        return AtNode(self.sink, self.node)

    def below(self, call: str, seat: Seat, *, sub_leads: bool) -> Place:
        """Return the place of the session that answers this one's `call`; `sub_leads` makes the sub-model its root.

        It may use a share of what is left here, divided by how many such calls of this session are under way. Raise
        `BudgetExceeded` if nothing is.
        """
        node = f"{self.node}/{call}" if self.node else call
        share = self.settings.child_share / max(1, self.seat.sessions_below)
        budget = self.models.budget.child(share, sink=AtNode(self.sink, node))
        models = self.models.session(node, budget, sub_leads=sub_leads)
        played = None if self.played is None else self.played.below(call)
        return replace(self, node=node, seat=seat, models=models, on_text=None, stop_first=False, played=played)


@asynccontextmanager
async def open_controller(place: Place, run: Run, children: Offered) -> AsyncIterator[tuple[Controller, Cells]]:
    """Open the session over the context of `run`, and yield who drives it; its cells may call `children`.

    Raise what `open_session` raises.
    """
    played = place.played
    if played is not None:
        played.begin(run, place.models.budget)
    spec = session_spec(place.settings, run.context, place.models, place.tools, children)
    if played is not None:
        spec = replace(spec, played=played, sandbox=replace(spec.sandbox, seed=played.tape.seed))
    async with open_session(place.slots, spec, run) as session:
        cells = Cells(session, place.seat, stop_first=place.stop_first, played=played)
        root, sub = place.models.root, place.models.sub
        limits = controller_limits(
            place.settings,
            place.models.budget,
            may_recurse=place.seat.depth < place.settings.max_depth,
            subcall_characters=await asyncio.to_thread(subcall_characters, place.settings, sub.name),
        )
        profile = await asyncio.to_thread(root_profile, place.settings, root.name)
        if played is None:
            yield Controller(root, cells, run, limits, profile, listener(place.settings, place.on_text)), cells
            return
        led = Controller(
            played.root(root), cells, run, limits, played.profile(profile), listener(place.settings, place.on_text)
        )
        played.on_live = partial(led.read_up_to, profile.window)
        led.before_turn = played.before_turn
        yield led, cells
