"""How the root model is led: its profile, with what the settings and the lists of models add."""

from __future__ import annotations

from dataclasses import replace

from rlm_kernel.assembly.clients import VENDORS
from rlm_kernel.config import Settings
from rlm_kernel.controller.profile import Profile, find_profile
from rlm_kernel.models.model import OnText, TextDelta

_MOST_READ = 500_000
"""Characters that a model is said to read at once, where its window is not known or has room for more."""


def root_profile(settings: Settings, model: str) -> Profile:
    """Return the profile of `model`, which leads a session; a chosen one and a set window are for the run's root model.

    Raise `ConfigError` for a broken one, naming file and line.
    """
    is_root = model == settings.model
    profile = find_profile(model, settings.profiles_dir, settings.profile if is_root else None)
    tools = profile.tools if settings.tool_calling == "auto" else settings.tool_calling == "on"
    window = (settings.model_window if is_root else None) or profile.window or known_window(model)
    return replace(profile, tools=tools, window=window)


def subcall_characters(settings: Settings, model: str) -> int:
    """Return about how many characters one call of `model` can read: three for each token of its window."""
    window = root_profile(settings, model).window
    return _MOST_READ if window is None else min(_MOST_READ, max(1_000, window * 3 // 1_000 * 1_000))


def known_window(model: str) -> int | None:
    """Return how many tokens `model` can read, as the price list or the local model's own settings have it."""
    provider, _, name = model.partition(":")
    if provider == "local":
        from rlm_kernel.models.local import LOCAL_MODELS  # noqa: PLC0415 - only where it is needed

        return LOCAL_MODELS[name].context if name in LOCAL_MODELS else None
    vendor = VENDORS.get(provider)
    if vendor is None or vendor.prices is None:
        return None
    from rlm_kernel.models.metering import listed_window  # noqa: PLC0415 - as above

    return listed_window(vendor.prices, name)


def listener(settings: Settings, on_text: OnText | None) -> OnText | None:
    """Return what a reply's pieces go to, None where it is not streamed."""
    if settings.stream == "off":
        return None
    return on_text or (_nobody if settings.stream == "on" else None)


def _nobody(piece: TextDelta) -> None:
    """Hear a stream that nobody listens to."""
