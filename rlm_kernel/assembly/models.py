"""The models of a run: clients and their gates, which sessions share, and each session's own wrappers around them.

From outside in, a call passes: the count of sub-calls, what a run may have at once, retry, the budget, metering, the
gate before the provider, the client.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from rlm_kernel.assembly.budgets import check_prices
from rlm_kernel.assembly.clients import OpenedModel, open_model
from rlm_kernel.budget import Budget, Prices
from rlm_kernel.config import Settings
from rlm_kernel.models.budgeted import Budgeted, Counted
from rlm_kernel.models.gate import Gate
from rlm_kernel.models.limited import Gated, Limited
from rlm_kernel.models.metering import Meter, Metered, prices_of
from rlm_kernel.models.model import Model
from rlm_kernel.models.retry import Retrying, RetryPolicy
from rlm_kernel.models.turns import Rates

_gates: dict[str, Gate] = {}
_gates_lock = threading.Lock()


def gate_of(opened: OpenedModel) -> Gate:
    """Return the gate before a client: one for each account in this process, which outlives runs as rates do."""
    if opened.account is None:
        return Gate(opened.model.name)
    with _gates_lock:
        return _gates.setdefault(opened.account.digest, Gate(opened.account.address))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What the wrappers around the clients of one session share.

    `lane` is the session: sessions take turns at `room`, which holds the calls that a run may have at once, and at the
    gates before providers. Who waits there spends none of the call's total time. A call that waits to repeat an attempt
    keeps its room in the run and none at the gate.
    """

    policy: RetryPolicy
    meter: Meter
    room: Gate
    budget: Budget = field(default_factory=Budget)
    lane: Hashable = ""

    def around(self, opened: OpenedModel, gate: Gate, *, is_sub: bool = True) -> Model:
        """Put this session's wrappers around a client; closing the result closes the client."""
        model: Model = Gated(opened.model, gate, self.lane, patience=self.policy.total_seconds)
        model = Metered(model, self.meter, opened.tariff)
        model = Budgeted(model, self.budget, is_sub=is_sub)
        model = Retrying(model, self.policy)
        model = Limited(model, self.room, self.lane)
        return Counted(model, self.budget, is_sub=is_sub)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client that is open, and the gate before it."""

    opened: OpenedModel
    gate: Gate

    @property
    def name(self) -> str:
        """The model's name, without its provider's."""
        return self.opened.model.name.partition(":")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models of one session of a run, and what the run has used."""

    root: Model
    sub: Model
    chain: Chain
    clients: tuple[Client, Client]

    @property
    def meter(self) -> Meter:
        """What all models of the run have used."""
        return self.chain.meter

    @property
    def prices(self) -> dict[str, Prices | None]:
        """What the models' tokens cost, by their names; None where that is unknown."""
        return {each.opened.model.name: prices_of(each.opened.tariff, each.name) for each in self.clients}

    def under(self, budget: Budget) -> Models:
        """Return the same models with `budget` in place of one without limits."""
        return _models(replace(self.chain, budget=budget), self.clients)

    def session(self, lane: Hashable, budget: Budget | None = None) -> Models:
        """Return the same clients with the wrappers of another session of the run; nothing of it needs closing."""
        chain = replace(self.chain, lane=(self.chain.lane, lane), budget=budget or self.chain.budget)
        return _models(chain, self.clients)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Models]:
        """Open the root model and the sub-model, one client if both are the same; close them when the block ends.

        Raise a `ConfigError` before anything is opened for good.
        """
        async with AsyncExitStack() as stack:
            root = _open(settings.model, settings, stack)
            other = settings.sub_model if settings.sub_model != settings.model else None
            sub = root if other is None else _open(other, settings, stack)
            models = _models(_chain(settings), (root, sub))
            check_prices(settings, models.prices)
            yield models


def _chain(settings: Settings) -> Chain:
    policy = RetryPolicy(
        attempts=settings.retry_attempts, total_seconds=max(settings.retry_time, settings.request_timeout)
    )
    room = Gate("this run", Rates(concurrency=settings.max_parallel_subcalls))
    return Chain(policy=policy, meter=Meter(), room=room, lane=object())


def _open(spec: str, settings: Settings, stack: AsyncExitStack) -> Client:
    opened = open_model(spec, seconds=settings.request_timeout)
    stack.push_async_callback(opened.model.aclose)
    gate = gate_of(opened)
    stack.enter_context(gate.limited(Rates(concurrency=opened.parallel)))
    return Client(opened=opened, gate=gate)


def _models(chain: Chain, clients: tuple[Client, Client]) -> Models:
    root = chain.around(clients[0].opened, clients[0].gate, is_sub=False)
    sub = chain.around(clients[1].opened, clients[1].gate)
    return Models(root=root, sub=sub, chain=chain, clients=clients)
