"""What is an image, and how large it says it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.pictures import MAX_BYTES, Picture, look_at
from tests.support.images import GIF, JPEG, PNG, WEBP, WEBP_EXTENDED, WEBP_LOSSLESS, png

ALL = (PNG, GIF, JPEG, WEBP, WEBP_LOSSLESS, WEBP_EXTENDED)


@pytest.mark.parametrize(
    ("data", "picture"),
    [
        (png(640, 480), Picture("image/png", 640, 480)),
        (JPEG, Picture("image/jpeg", 3000, 17)),
        (GIF, Picture("image/gif", 1, 1)),
        (WEBP, Picture("image/webp", 1, 1)),
        (WEBP_LOSSLESS, Picture("image/webp", 1, 1)),
        (WEBP_EXTENDED, Picture("image/webp", 1, 1)),
    ],
)
def test_each_kind_is_known_by_its_bytes(data: bytes, picture: Picture) -> None:
    """Its kind and its size are in its header."""
    assert look_at(data) == picture


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no PNG, JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG, JPEG"),
        (b"%PDF-1.7" + PNG, "no PNG, JPEG"),
        (png(2**31, 1), "claims 2,147,483,648 x 1 pixels"),
        (png(0, 1), "claims 0 x 1 pixels"),
        (png(1, 1, b"x" * MAX_BYTES), "an image may have 20,971,520"),
        (PNG[:12] + b"JUNK" + PNG[16:], "header is broken"),
        (PNG[:20], "ends within its header"),
        (JPEG[:3], "ends within its header"),
        (b"\xff\xd8\xff\xd9", "header is broken"),
        (b"\xff\xd8\xff\xe0\x00\x00" * 3, "its header"),
        (b"\xff\xd8" + b"\xff" * 1_000, "ends within its header"),
        (WEBP[:12] + b"VP9 " + WEBP[16:], "header is broken"),
    ],
)
def test_what_is_no_image(data: bytes, says: str) -> None:
    """It is refused in words: other kinds, files of two kinds, broken headers, claims that no image lives up to."""
    with pytest.raises(ValueError, match=says):
        look_at(data)


@given(st.sampled_from(ALL), st.integers(0, 80), st.binary(max_size=40))
def test_damage_is_an_error_in_words(data: bytes, at: int, junk: bytes) -> None:
    """Whatever the bytes are, there is a picture within bounds or a `ValueError`."""
    try:
        picture = look_at(data[:at] + junk + data[at + len(junk) :])
    except ValueError as error:
        assert str(error).startswith("it") or str(error).startswith("its")  # noqa: PT017 - either way is fine
    else:
        assert 0 < picture.width <= 16_384
