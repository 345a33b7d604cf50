"""What a budget promises under concurrency: no node uses more than its limit, but for what was underestimated."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_kernel.budget import Budget, Call, Limits, Prices
from rlm_kernel.budget.account import Account
from rlm_kernel.errors import BudgetExceeded
from rlm_kernel.types import Usage

Fate = Literal["settled", "kept", "released", "cancelled"]


@dataclass(frozen=True)
class Plan:
    """One call: which budget makes it, what it asks for, how it ends, after how many steps of the loop."""

    node: int
    input_tokens: int
    output_tokens: int
    actual_input: int
    actual_output: float
    fate: Fate
    steps: int
    is_sub: bool


@dataclass
class World:
    """A tree of budgets and what must hold in it; `under` is by how much inputs were underestimated, per node."""

    limits: Limits
    shares: list[tuple[int, float]]
    budgets: list[Budget] = field(default_factory=list)
    under: dict[Account, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        prices = {"m": Prices(3, (7,), (11,))}
        self.budgets.append(Budget(self.limits, prices=prices))
        for parent, share in self.shares:
            self.budgets.append(self.budgets[parent % len(self.budgets)].child(share))

    def check(self) -> None:
        """Assert that in every node the reserved and the settled stay below the limit, but for underestimates."""
        for budget in self.budgets:
            account = budget._account
            under = self.under.get(account, [0] * 6)
            for index, limit in enumerate(account.ledger.limits):
                settled, reserved = account.ledger.settled[index], account.ledger.reserved[index]
                assert settled >= 0
                assert reserved >= 0
                if limit is not None:
                    assert settled + reserved <= limit + under[index]

    async def play(self, plan: Plan) -> None:
        """Make the call of a plan; one that is cancelled waits for that."""
        budget = self.budgets[plan.node % len(self.budgets)]
        prices = budget._account.tree.prices["m"]
        call = Call("m", plan.input_tokens, plan.input_tokens, plan.output_tokens, prices, plan.is_sub)
        try:
            if plan.is_sub:
                budget.take_subcall()
            reservation = await budget.admit(call)
        except BudgetExceeded:
            self.check()
            return
        self.check()
        assert 0 < reservation.output_tokens <= plan.output_tokens
        try:
            for _ in range(plan.steps):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            reservation.keep()
            raise
        match plan.fate:
            case "settled":
                self._settle(budget, reservation.call, plan, int(reservation.output_tokens * plan.actual_output))
                output = int(reservation.output_tokens * plan.actual_output)
                cost = (3 + 7 * plan.actual_input + 11 * output) / 10**12
                usage = Usage(calls=1, input_tokens=plan.actual_input, output_tokens=output, cost_usd=cost)
                reservation.settle(usage)
            case "kept":
                reservation.keep()
            case _:
                reservation.release()
        self.check()

    def _settle(self, budget: Budget, call: Call, plan: Plan, output: int) -> None:
        more = max(0, plan.actual_input - call.input_tokens)
        for account in budget._account.line:
            under = self.under.setdefault(account, [0] * 6)
            for index, amount in enumerate((0, more, 0, more, 7 * more, 0)):
                under[index] += amount


amounts = st.integers(1, 600)
plans = st.builds(
    Plan,
    node=st.integers(0, 5),
    input_tokens=amounts,
    output_tokens=amounts,
    actual_input=amounts,
    actual_output=st.floats(0, 1),
    fate=st.sampled_from(["settled", "settled", "kept", "released", "cancelled"]),
    steps=st.integers(0, 5),
    is_sub=st.booleans(),
)
bounds = st.one_of(st.none(), st.integers(500, 8_000))


@settings(max_examples=150)
@given(
    limits=st.builds(
        Limits,
        subcalls=st.one_of(st.none(), st.integers(0, 20)),
        input_tokens=bounds,
        output_tokens=bounds,
        total_tokens=bounds,
        cost=st.one_of(st.none(), st.integers(5_000, 80_000).map(lambda units: units / 10**12)),
    ),
    shares=st.lists(st.tuples(st.integers(0, 5), st.floats(0.1, 1)), max_size=4),
    calls=st.lists(plans, min_size=1, max_size=25),
)
def test_no_node_passes_its_limit(limits: Limits, shares: list[tuple[int, float]], calls: list[Plan]) -> None:
    """With many calls at once, of all sizes and ends and in children too, every limit holds in every node; in the end
    nothing is reserved, nobody waits for ever, and a parent's figures are at least the sum of its children's."""

    async def run() -> None:
        world = World(limits, shares)
        tasks = [asyncio.create_task(world.play(plan)) for plan in calls]
        for plan, task in zip(calls, tasks, strict=True):
            if plan.fate == "cancelled":
                await asyncio.sleep(0)
                task.cancel()
        done, waiting = await asyncio.wait(tasks, timeout=20)
        assert not waiting
        for task in done:
            assert task.cancelled() or task.exception() is None, task.exception()
        world.check()
        for budget in world.budgets:
            assert budget._account.ledger.reserved == [0] * 6
            children = [each._account for each in world.budgets if each._account.line[1:2] == (budget._account,)]
            for index, total in enumerate(budget._account.ledger.settled):
                assert total >= sum(child.ledger.settled[index] for child in children)

    asyncio.run(run())
