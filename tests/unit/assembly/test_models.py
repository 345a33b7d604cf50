"""From names to models."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_kernel.assembly.clients import PROVIDERS, OpenedModel, open_model
from rlm_kernel.assembly.models import Chain, Models, gate_of
from rlm_kernel.config import Settings
from rlm_kernel.errors import ConfigError, MissingKey, UnknownModel
from rlm_kernel.models.gate import Gate
from rlm_kernel.models.metering import Meter
from rlm_kernel.models.model import Model, ModelRequest
from rlm_kernel.models.retry import RetryPolicy
from rlm_kernel.models.turns import Rates
from rlm_kernel.types import Message
from tests.support.provider_server import INPUT_TOKENS, ProviderServer, Reply

ASK = ModelRequest(messages=(Message("user", "hello"),), max_output_tokens=9)
POLICY = RetryPolicy(first_wait=0.01, total_seconds=10)


def build_model(opened: OpenedModel, policy: RetryPolicy = POLICY, meter: Meter | None = None) -> Model:
    """Wrap a client as a run does."""
    chain = Chain(policy=policy, meter=meter or Meter(), room=Gate("a run"))
    return chain.around(opened, gate_of(opened))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("opnai:gpt-5", "did you mean openai"),
        ("nothing-like-it:x", ", ".join(PROVIDERS)),
        ("gpt-5", "provider:model"),
        ("openai:", "no model"),
        ("openai: ", "no model"),
        ("", "provider:model"),
        ("local:gpt-5", "smollm2"),
    ],
)
def test_a_wrong_name_says_what_is_right(spec: str, said: str) -> None:
    """A name without a known provider or a model is refused; the message has the nearest or all known names."""
    with pytest.raises(UnknownModel) as caught:
        open_model(spec, env={})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("openrouter", "OPENROUTER_API_KEY"),
        ("gemini", "GEMINI_API_KEY"),
    ],
)
@pytest.mark.parametrize("value", [None, "", " \t\n"])
def test_a_missing_key_is_named(provider: str, variable: str, value: str | None) -> None:
    """A vendor that needs a key is refused without one, and the message names the variable."""
    with pytest.raises(MissingKey, match=variable):
        open_model(f"{provider}:m", env={} if value is None else {variable: value})


@pytest.mark.parametrize("key", ["sk-abc…", "sk-abc def", "sk-abc\ndef", "ключ-1234", "sk\u200b-abc"])
@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama"])
def test_a_key_that_cannot_be_sent_is_refused_at_once(provider: str, key: str) -> None:
    """A key copied with an ellipsis, a gap or the like is refused by its variable's name, and is not shown."""
    variable = f"{provider.upper()}_API_KEY"
    with pytest.raises(ConfigError, match=f"{variable} holds '") as caught:
        open_model(f"{provider}:m", env={variable: key})
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1",
        "localhost:8000/v1",
        "http://",
        "http:///v1",
        "https://x:99999/v1",
        "http://x:port/v1",
        "http://x:0/v1",
        "http://x…/v1",
        "http://a b/v1",
        "http://x/\x07v1",
        "ftp://x/v1",
        "user:password@x",
    ],
)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "vllm"])
def test_an_address_that_cannot_be_one_is_refused_at_once(provider: str, address: str) -> None:
    """The message names the variable and shows an address, not the one that was given: that may hold a password."""
    prefix = provider.upper()
    with pytest.raises(ConfigError, match=f"{prefix}_BASE_URL holds no address.* as http") as caught:
        open_model(f"{provider}:m", env={f"{prefix}_API_KEY": "key", f"{prefix}_BASE_URL": address})
    assert "password" not in str(caught.value)


async def test_white_space_around_a_key_and_an_address_is_dropped() -> None:
    """What a file's last line or a careless paste adds does no harm; blank variables count as not set."""
    async with ProviderServer().run() as server:
        model = open_model("vllm:m", env={"VLLM_API_KEY": " key\n", "VLLM_BASE_URL": f" {server.url}/v1\n"}).model
        await model.complete(ASK)
        await model.aclose()
    assert server.requests[0].headers["Authorization"] == "Bearer key"
    await open_model("vllm:m", env={"VLLM_API_KEY": " ", "VLLM_BASE_URL": " "}).model.aclose()


def test_a_missing_script_is_refused_at_once(tmp_path: Path) -> None:
    """A script that is not there is refused when the model is opened, before anything is started for it."""
    with pytest.raises(ConfigError, match=r"absent\.md"):
        open_model(f"scripted:{tmp_path}/absent.md")


def _env(prefix: str, url: str, key: str | None = "secret-key") -> Mapping[str, str]:
    path = "" if prefix == "ANTHROPIC" else "/v1"
    return {f"{prefix}_BASE_URL": f"{url}{path}"} | ({f"{prefix}_API_KEY": key} if key else {})


@pytest.mark.parametrize("provider", ["openai", "anthropic", "openrouter", "gemini", "vllm", "ollama", "llamacpp"])
async def test_every_vendor_is_reached_at_the_address_given(provider: str) -> None:
    """Each vendor's address and key come from its own variables; the name after the first colon is the model."""
    async with ProviderServer().run() as server:
        model = open_model(f"{provider}:family/name:tag", env=_env(provider.upper(), server.url)).model
        completion = await model.complete(ASK)
        await model.aclose()
    (request,) = server.requests
    assert completion.text == "ok"
    assert request.body["model"] == "family/name:tag"
    assert request.body["max_tokens"] == 9
    assert request.headers["Authorization"] == "Bearer secret-key"


async def test_servers_of_ones_own_need_no_key() -> None:
    """A local server is used without a key, and what it costs is unknown."""
    meter = Meter()
    async with ProviderServer().run() as server:
        opened = open_model("ollama:m", env=_env("OLLAMA", server.url, key=None))
        model = build_model(opened, meter=meter)
        await model.complete(ASK)
        await model.aclose()
    assert meter.usage["ollama:m"].cost_usd is None
    assert meter.usage["ollama:m"].input_tokens == INPUT_TOKENS


async def test_a_built_model_retries_and_meters_each_attempt() -> None:
    """A failing attempt is repeated, one whose reply was empty is metered too, and the name stays."""
    meter = Meter()
    async with ProviderServer().run() as server:
        server.replies.extend([Reply(status=503), Reply(text=""), Reply(text="at last")])
        opened = open_model("openai:m", env=_env("OPENAI", server.url))
        model = build_model(opened, meter=meter)
        completion = await model.complete(ASK)
        await model.aclose()
    assert (model.name, completion.text, completion.attempts) == ("openai:m", "at last", 3)
    assert meter.usage["openai:m"].calls == 2


@pytest.mark.parametrize("where", ["run", "gate"])
async def test_waiting_for_room_takes_none_of_the_calls_time(where: str) -> None:
    """Five calls that each need most of the total time all succeed on a limit of one, in the run or at the gate."""
    async with ProviderServer(lambda body: Reply(delay=0.2)).run() as server:
        opened = open_model("openai:m", env=_env("OPENAI", server.url))
        policy = replace(POLICY, total_seconds=0.6)
        one = Rates(concurrency=1)
        room, gate = Gate("a run", one if where == "run" else Rates()), gate_of(opened)
        model = Chain(policy=policy, meter=Meter(), room=room).around(opened, gate)
        with gate.limited(one if where == "gate" else Rates()):
            completions = await asyncio.gather(*(model.complete(ASK) for _ in range(5)))
        await model.aclose()
    assert len(completions) == 5


async def test_the_models_of_a_run(tmp_path: Path) -> None:
    """A run's models share one meter; without a sub-model the root model serves for it."""
    script = tmp_path / "script.md"
    script.write_text("--- turn ---\none\n--- turn ---\ntwo\n")
    spec = f"scripted:{script}"
    async with Models.open(Settings(model=spec)) as models:
        assert models.sub.name == models.root.name == spec
        assert [(await models.root.complete(ASK)).text for _ in range(2)] == ["one", "two"]
        assert models.meter.usage[spec].calls == 2
        assert models.meter.usage[spec].cost_usd == 0
    async with Models.open(Settings(model=spec, sub_model="local:smollm2")) as models:
        assert (models.root.name, models.sub.name) == (spec, "local:smollm2")


async def test_a_wrong_sub_model_closes_the_root_model(tmp_path: Path) -> None:
    """When the second name is wrong the first model is closed again and the error raised."""
    script = tmp_path / "script.md"
    script.write_text("--- turn ---\none\n")
    with pytest.raises(UnknownModel):
        async with Models.open(Settings(model=f"scripted:{script}", sub_model="nowhere:m")):
            pass


async def test_the_identity_of_a_model_holds_no_secret() -> None:
    """What an answer is stored for is provider, address and model, without key, user and password."""
    env = {"VLLM_BASE_URL": "http://user:secret@host:1/v1/", "VLLM_API_KEY": "secret-key"}
    opened = open_model("vllm:m", env=env)
    await opened.model.aclose()
    assert opened.identity == {"provider": "vllm", "address": "http://host:1/v1", "model": "m"}
    assert opened.account is not None
    assert "secret" not in repr(opened.account)
