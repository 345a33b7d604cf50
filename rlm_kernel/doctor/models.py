"""Whether the configured models can be reached for: their providers, and that their keys are set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from rlm_kernel.assembly.clients import PROVIDERS, VENDORS
from rlm_kernel.config import Settings
from rlm_kernel.doctor.check import Check, ok, problem


def check_keys(settings: Settings, env: Mapping[str, str] = os.environ) -> Iterator[Check]:
    """Look whether each model's key is set; keys are not shown, sent or tried."""
    for name, model in (("model", settings.model), ("sub-model", settings.sub_model)):
        if model is not None:
            yield _check(name, model, env)


def _check(name: str, model: str, env: Mapping[str, str]) -> Check:
    title = f"The {name} can be asked"
    provider = model.partition(":")[0]
    vendor = VENDORS.get(provider)
    if provider not in PROVIDERS or model == provider:
        known = ", ".join(PROVIDERS)
        return problem(name, title, f"{model} names no provider", f"--{name} PROVIDER:MODEL, with one of {known}")
    if vendor is None:
        return ok(name, title, f"{model} needs no key")
    if env.get(vendor.key_variable, "").strip():
        return ok(name, title, f"{model}: {vendor.key_variable} is set")
    if vendor.needs_key:
        remedy = f"export {vendor.key_variable}=…, or choose another with --{name}"
        return problem(name, title, f"{model}: {vendor.key_variable} is not set", remedy)
    return ok(name, title, f"{model} needs no key")
