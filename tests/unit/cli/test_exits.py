"""The table of exit statuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel import errors
from rlm_kernel.cli import exits
from rlm_kernel.errors import RlmKernelError

ABSTRACT = {errors.RetryableModelError}


def family(base: type[RlmKernelError]) -> Iterator[type[RlmKernelError]]:
    """Every class below `base` that this package raises."""
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from family(kind)


@pytest.mark.parametrize("kind", sorted(set(family(RlmKernelError)) - ABSTRACT, key=str))
def test_every_error_has_a_status_of_its_own(kind: type[RlmKernelError]) -> None:
    """A new class of error without a row in the table fails here."""
    assert kind in exits.BY_ERROR


def test_no_status_means_two_things() -> None:
    """Only a bad setting shares its status, with the other usage errors."""
    given = [*exits.BY_ERROR.values(), *exits.OTHERS]
    assert len(given) == len(set(given)) == len(exits.statuses())


def test_a_class_without_a_row_gets_its_bases_status() -> None:
    """A subclass that someone adds outside still ends with the nearest status."""

    class Special(errors.ContextNotFound):
        pass

    assert exits.status_of(Special()) == 11
    assert exits.status_of(errors.RetryableModelError("x")) == exits.BY_ERROR[errors.ModelError]


def test_the_page_of_statuses_is_the_table() -> None:
    """docs/cli.md lists the same statuses with the same words."""
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    rows = {int(status): text for status, text in re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)}
    assert rows == exits.statuses()
