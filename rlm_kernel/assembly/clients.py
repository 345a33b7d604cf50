"""From a model's name, `provider:model`, to a bare client of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from rlm_kernel.config import nearest
from rlm_kernel.errors import ConfigError, MissingKey, UnknownModel
from rlm_kernel.models.metering import Tariff, free, published, unknown
from rlm_kernel.models.model import Model
from rlm_kernel.types import JSON


@dataclass(frozen=True, slots=True)
class Vendor:
    """A provider that is reached over HTTP: its `name` here, and where it is.

    `prices` is what the price list calls it, None for servers of one's own, which are sent a key if there is one.
    """

    name: str
    base_url: str
    prices: str | None = None
    interface: Literal["openai", "anthropic"] = "openai"

    @property
    def url_variable(self) -> str:
        """The environment variable that replaces `base_url`."""
        return f"{self.name.upper()}_BASE_URL"

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the key."""
        return f"{self.name.upper()}_API_KEY"

    @property
    def needs_key(self) -> bool:
        """Whether nothing is answered without a key."""
        return self.prices is not None


OPENAI_URL = "https://api.openai.com/v1"
VENDORS = {
    vendor.name: vendor
    for vendor in (
        Vendor("openai", OPENAI_URL, "openai"),
        Vendor("anthropic", "https://api.anthropic.com", "anthropic", "anthropic"),
        Vendor("openrouter", "https://openrouter.ai/api/v1", "openrouter"),
        Vendor("gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "google"),
        Vendor("vllm", "http://127.0.0.1:8000/v1"),
        Vendor("ollama", "http://127.0.0.1:11434/v1"),
        Vendor("llamacpp", "http://127.0.0.1:8080/v1"),
    )
}
PROVIDERS = (*VENDORS, "local", "scripted")


@dataclass(frozen=True, slots=True)
class Account:
    """Whose limits a client's calls count against: the provider, its address, and a digest of address and key."""

    provider: str
    address: str
    digest: str


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A bare client, what its calls cost, and what limits them.

    `account` is None for a model of this process alone; `parallel` is how many calls it can work on at once (None: any
    number). `identity` tells the model from every other one whose answers could differ; None where equal requests are
    not the same (a script's).
    """

    model: Model
    tariff: Tariff
    parallel: int | None = None
    account: Account | None = None
    identity: Mapping[str, JSON] | None = None


def open_model(spec: str, *, seconds: float = 120.0, env: Mapping[str, str] | None = None) -> OpenedModel:
    """Open the client of the model that `spec` names; `seconds` bounds one attempt. No connection is made yet.

    Raise `UnknownModel`, `MissingKey`, `MissingExtra`, or `ConfigError` for a script that can't be read and for a key
    or an address in `env` that can't be one.
    """
    provider, model = _split(spec)
    # The SDKs take a second to import, so only the one that is needed is.
    if provider == "scripted":
        from rlm_kernel.models.scripted import ScriptedModel  # noqa: PLC0415

        return OpenedModel(ScriptedModel(spec, Path(model).expanduser()), free)
    if provider == "local":
        from rlm_kernel.models.local import LocalModel  # noqa: PLC0415

        local = LocalModel(model, seconds=seconds)
        return OpenedModel(local, free, local.slots, identity={"provider": provider, "model": model})
    return _open_vendor(spec, VENDORS[provider], model, seconds, os.environ if env is None else env)


def _open_vendor(spec: str, vendor: Vendor, model: str, seconds: float, env: Mapping[str, str]) -> OpenedModel:
    from rlm_kernel.models.provider import Provider, is_address  # noqa: PLC0415

    key = _key(spec, vendor, env)
    base_url = env.get(vendor.url_variable, "").strip() or vendor.base_url
    if not is_address(base_url):
        raise ConfigError(
            f"{vendor.url_variable} holds no address of a server: write it in full, as {vendor.base_url}, or unset it"
        )
    provider = Provider(
        name=spec,
        model=model,
        base_url=base_url,
        api_key=key,
        key_name=vendor.key_variable,
        seconds=seconds,
        max_tokens_field="max_completion_tokens" if base_url.rstrip("/") == OPENAI_URL else "max_tokens",
    )
    digest = hashlib.sha256(f"{base_url}\0{key or ''}".encode()).hexdigest()
    account = Account(vendor.name, provider.host, digest)
    identity: dict[str, JSON] = {"provider": account.provider, "address": _public(base_url), "model": model}
    # Behind another address the vendor's prices may not be what is paid.
    tariff = published(vendor.prices, model) if vendor.prices and base_url == vendor.base_url else unknown
    if vendor.interface == "anthropic":
        from rlm_kernel.models.anthropic import AnthropicModel  # noqa: PLC0415

        return OpenedModel(AnthropicModel(provider), tariff, account=account, identity=identity)
    from rlm_kernel.models.openai import OpenAIModel  # noqa: PLC0415

    return OpenedModel(OpenAIModel(provider), tariff, account=account, identity=identity)


def _public(base_url: str) -> str:
    """Return an address without a name and a password in it."""
    parts = urlsplit(base_url.rstrip("/"))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _key(spec: str, vendor: Vendor, env: Mapping[str, str]) -> str | None:
    """Return the vendor's key; None if there is none and none is needed. Raise `MissingKey`, `ConfigError`."""
    key = env.get(vendor.key_variable, "").strip()
    if not key and vendor.needs_key:
        raise MissingKey(f"{spec} needs a key: set the environment variable {vendor.key_variable}")
    if odd := next((character for character in key if not "!" <= character <= "~"), None):
        raise ConfigError(
            f"the key in {vendor.key_variable} holds {odd!r}, which no key has: copy it again, whole and by itself"
        )
    return key or None


def _split(spec: str) -> tuple[str, str]:
    """Return the provider and the model that `spec` names. Raise `UnknownModel`."""
    provider, colon, model = spec.partition(":")
    known = ", ".join(PROVIDERS)
    if not colon:
        raise UnknownModel(f"the model {spec!r} names no provider: write provider:model, with one of {known}")
    if provider not in PROVIDERS:
        raise UnknownModel(
            f"the model {spec!r} has an unknown provider{nearest(provider, PROVIDERS)}; there are: {known}"
        )
    if not model.strip():
        raise UnknownModel(f"the model {spec!r} names no model after the colon")
    return provider, model
