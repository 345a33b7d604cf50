"""The models of a run: clients and their gates, which sessions share, and each session's own wrappers around them.

From outside in, a call passes: the count of calls and answers that are known (sub-calls only), what a run may have at
once, retry, the budget, metering, the gate before the provider, the client.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlm_kernel.assembly.budgets import check_prices
from rlm_kernel.assembly.clients import PROVIDERS, OpenedModel, open_model
from rlm_kernel.budget import Budget, Prices
from rlm_kernel.config import Settings, for_provider, nearest, providers_in
from rlm_kernel.errors import ConfigError, ReplayMismatch
from rlm_kernel.models.budgeted import Budgeted, Counted
from rlm_kernel.models.flights import Flights
from rlm_kernel.models.gate import Gate
from rlm_kernel.models.limited import Gated, Limited
from rlm_kernel.models.metering import Meter, Metered, free, prices_of
from rlm_kernel.models.model import Completion, Model, ModelRequest
from rlm_kernel.models.recall import Recall, Recalling
from rlm_kernel.models.retry import Retrying, RetryPolicy
from rlm_kernel.models.store import AnswerStore
from rlm_kernel.models.turns import Rates
from rlm_kernel.recording import Redaction

_gates: dict[str, Gate] = {}
_flights: dict[Path, Flights] = {}
_lock = threading.Lock()


def gate_of(opened: OpenedModel) -> Gate:
    """Return the gate before a client: one for each account in this process, which outlives runs as rates do."""
    if opened.account is None:
        return Gate(opened.model.name)
    with _lock:
        return _gates.setdefault(opened.account.digest, Gate(opened.account.address))


class NoModel:
    """Stands for a model that is known by its recorded replies alone."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def complete(self, request: ModelRequest) -> Completion:
        """Raise `ReplayMismatch`."""
        raise ReplayMismatch(f"{self.name} is not asked anything in a replay")

    async def aclose(self) -> None:
        """Close nothing."""


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
    recall: Recall = field(default_factory=Recall)

    def around(self, opened: OpenedModel, gate: Gate, *, is_sub: bool = True) -> Model:
        """Put this session's wrappers around a client; closing the result closes the client."""
        model: Model = Gated(opened.model, gate, self.lane, patience=self.policy.total_seconds)
        model = Metered(model, self.meter, opened.tariff)
        model = Budgeted(model, self.budget, is_sub=is_sub)
        model = Retrying(model, self.policy)
        model = Limited(model, self.room, self.lane)
        if is_sub and opened.identity is not None and self.recall.is_on:
            model = Recalling(model, self.recall, opened.identity)
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


class Clients:
    """The clients of one event loop's runs, by name: each is opened when it is first asked for, and all are closed.

    Use as an async context manager.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[str, Client] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Clients:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    def client(self, spec: str, run: Clients) -> Client:
        """Return the client of a model; a script, which each run reads from its start, is `run`'s own.

        Raise a `ConfigError`.
        """
        if spec not in self._open and self is not run and spec.startswith("scripted:"):
            return run.client(spec, run)
        if spec not in self._open:
            opened = open_model(spec, seconds=self._settings.request_timeout)
            self._stack.push_async_callback(opened.model.aclose)
            gate = gate_of(opened)
            self._stack.enter_context(gate.limited(_rates(opened, self._settings)))
            self._open[spec] = Client(opened=opened, gate=gate)
        return self._open[spec]


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
    def budget(self) -> Budget:
        """What the session's calls may use."""
        return self.chain.budget

    @property
    def prices(self) -> dict[str, Prices | None]:
        """What the models' tokens cost, by their names; None where that is unknown."""
        return {each.opened.model.name: prices_of(each.opened.tariff, each.name) for each in self.clients}

    def under(self, budget: Budget) -> Models:
        """Return the same models with `budget` in place of one without limits."""
        return _models(replace(self.chain, budget=budget), self.clients)

    def recorded_as(self, run: str, tell: Callable[[str], None]) -> None:
        """Take the session's name, for answers that others find; a run's first session is told of trouble with them."""
        recall = self.chain.recall
        recall.run = run
        if recall.store is not None and recall.store.tell is None:
            recall.store.tell = tell

    def keep_out(self, redaction: Redaction | None) -> None:
        """Let no answer be stored that something would be taken out of."""
        if redaction is not None:
            self.chain.recall.is_private = redaction.strikes

    def session(self, lane: Hashable, budget: Budget | None = None, *, sub_leads: bool = False) -> Models:
        """Return the same clients with the wrappers of a session below, under `budget` if it has its own.

        Nothing of it needs closing. Its meter counts for this one too. With `sub_leads` the sub-model is its root.
        """
        chain = replace(
            self.chain,
            lane=(self.chain.lane, lane),
            budget=budget or self.chain.budget,
            meter=Meter(self.chain.meter),
            recall=replace(self.chain.recall),
        )
        root, sub = self.clients
        return _models(chain, (sub if sub_leads else root, sub))

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, kept: Clients | None = None) -> AsyncIterator[Models]:
        """Open the root model and the sub-model, one client if both are the same, for a block.

        Those of providers are taken from `kept` and stay there. Raise a `ConfigError` before anything is opened for
        good.
        """
        async with Clients(settings) as own:
            root = (kept or own).client(settings.model, own)
            sub = (kept or own).client(settings.sub_model or settings.model, own)
            models = _models(_chain(settings), (root, sub))
            check_prices(settings, models.prices)
            yield models

    @classmethod
    @asynccontextmanager
    async def recorded(cls, settings: Settings, root: str, sub: str) -> AsyncIterator[Models]:
        """Give models of these names with nothing behind them, for a block: who asks one has a `ReplayMismatch`."""
        clients = [
            Client(opened=OpenedModel(NoModel(name), free), gate=Gate("the recording")) for name in (root, sub or root)
        ]
        yield _models(_chain(settings), (clients[0], clients[1]))


def _chain(settings: Settings) -> Chain:
    policy = RetryPolicy(
        attempts=settings.retry_attempts, total_seconds=max(settings.retry_time, settings.request_timeout)
    )
    room = Gate("this run", Rates(concurrency=settings.max_parallel_subcalls))
    return Chain(policy=policy, meter=Meter(), room=room, lane=object(), recall=_recall(settings))


def _recall(settings: Settings) -> Recall:
    if settings.cache == "off":
        return Recall(flights=Flights() if settings.coalesce else None)
    store = AnswerStore(settings.answers_dir, settings.cache_size)
    with _lock:
        flights = _flights.setdefault(settings.answers_dir, Flights())
    return Recall(store=store, writes=settings.cache == "write", flights=flights)


def _rates(opened: OpenedModel, settings: Settings) -> Rates:
    limits = (settings.requests_per_minute, settings.tokens_per_minute, settings.provider_concurrency)
    for provider in (name for limit in limits for name in providers_in(limit)):
        if provider not in PROVIDERS:
            raise ConfigError(f"there is no provider {provider!r} to limit{nearest(provider, PROVIDERS)}")
    if opened.account is None:
        return Rates(concurrency=opened.parallel)
    requests, tokens, concurrency = (for_provider(limit, opened.account.provider) for limit in limits)
    return Rates(concurrency=concurrency, requests_per_minute=requests, tokens_per_minute=tokens)


def _models(chain: Chain, clients: tuple[Client, Client]) -> Models:
    root = chain.around(clients[0].opened, clients[0].gate, is_sub=False)
    sub = chain.around(clients[1].opened, clients[1].gate)
    return Models(root=root, sub=sub, chain=chain, clients=clients)
