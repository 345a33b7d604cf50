"""What the budget and the recording add to a sub-call on the host, against the same calls without them."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.harness import Measure, Row, in_turn
from benchmarks.stage import Stage
from rlm_kernel.assembly.models import Chain
from rlm_kernel.budget import Budget, Limits
from rlm_kernel.events import EventSink, SubcallReplied, SubcallRequested
from rlm_kernel.models.budgeted import Budgeted, Counted
from rlm_kernel.models.gate import Gate
from rlm_kernel.models.limited import Gated, Limited
from rlm_kernel.models.metering import Meter, Metered, prices_of, published
from rlm_kernel.models.model import Completion, Model, ModelRequest
from rlm_kernel.models.retry import Retrying, RetryPolicy
from rlm_kernel.recording import RecordingLog, new_run_id
from rlm_kernel.types import Message, Usage

ROUNDS, CALLS, TARGET = 8, 500, 0.0003
PROMPT = "How many of these are red? " + "word " * 200
NAME = "openai:gpt-5-mini"


class AtOnce:
    """Answers at once, as a provider would."""

    name = NAME

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer."""
        usage = Usage(calls=1, input_tokens=300, output_tokens=50, cost_usd=None)
        return Completion(text="three " * 30, finish_reason="stop", usage=usage, served_by="gpt-5-mini")

    async def aclose(self) -> None:
        """Close nothing."""


def _chain(*, metered: bool, budget: Budget | None) -> Model:
    """Wrap the client as a run does, without some of the wrappers."""
    tariff = published("openai", "gpt-5-mini")
    chain = Chain(policy=RetryPolicy(), meter=Meter(), room=Gate("run"))
    model: Model = Gated(AtOnce(), Gate("provider"), chain.lane, patience=60)
    if metered:
        model = Metered(model, chain.meter, tariff)
    if budget is not None:
        model = Budgeted(model, budget, is_sub=True)
    model = Limited(Retrying(model, chain.policy), chain.room, chain.lane)
    return model if budget is None else Counted(model, budget, is_sub=True)


async def _calls(model: Model, sink: EventSink | None) -> float:
    request = ModelRequest(messages=(Message("user", PROMPT),))
    started = time.process_time()
    for number in range(CALLS):
        call = f"s{number}"
        if sink is not None:
            sink.emit(SubcallRequested(call=call, cell=1, model=NAME, prompt=PROMPT))
        reply = await model.complete(request)
        if sink is not None:
            sink.emit(
                SubcallReplied(
                    call=call,
                    text=reply.text,
                    finish_reason=reply.finish_reason,
                    usage=reply.usage,
                    seconds=0.1,
                    attempts=reply.attempts,
                    served_by=reply.served_by,
                )
            )
    return (time.process_time() - started) / CALLS


async def rows(stage: Stage) -> list[Row]:
    """Measure sub-calls one after another, with more and more of what a run puts around them."""
    prices = prices_of(published("openai", "gpt-5-mini"), "gpt-5-mini")
    limits = Limits(subcalls=10**9, input_tokens=10**12, output_tokens=10**12, total_tokens=10**12, cost=10.0**6)
    run = Budget(limits, prices={NAME: prices})
    with tempfile.TemporaryDirectory() as folder, RecordingLog(Path(folder), new_run_id()) as log:
        measures: dict[str, Measure] = {
            "bare": partial(_calls, _chain(metered=False, budget=None), None),
            "metering": partial(_calls, _chain(metered=True, budget=None), None),
            "metering and budget": partial(_calls, _chain(metered=True, budget=run), None),
            "metering, budget in a grandchild": partial(
                _calls, _chain(metered=True, budget=run.child(0.5).child(0.5)), None
            ),
            "metering, budget and recording": partial(_calls, _chain(metered=True, budget=run), log),
        }
        taken = await in_turn(measures, ROUNDS)
    return [
        Row(
            name=f"a sub-call with {name}",
            value=taken[name],
            baseline=taken["bare"],
            against="without",
            compare="difference",
            target=TARGET if name.endswith("recording") else None,
        )
        for name in measures
        if name != "bare"
    ]
