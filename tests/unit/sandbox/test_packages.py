"""What an image's labels tell of what is installed."""

from __future__ import annotations

import pytest

from rlm_kernel.sandbox.packages import PACKAGES_LABEL, labelled_packages


@pytest.mark.parametrize(
    ("labels", "packages"),
    [
        (None, {}),
        ({}, {}),
        ({"other": "a=1"}, {}),
        ({PACKAGES_LABEL: ""}, {}),
        ({PACKAGES_LABEL: "a=1.0+x,python=3.11.2"}, {"a": "1.0+x", "python": "3.11.2"}),
        ({PACKAGES_LABEL: "a,=1,b=,c=2=3,,"}, {"c": "2=3"}),
    ],
)
def test_packages_are_read_from_labels(labels: dict[str, str] | None, packages: dict[str, str]) -> None:
    """What has no name or no version is left out; an image of another build has none."""
    assert labelled_packages(labels) == packages
