"""Images as cells have them: one that is a context, and any that goes along with a question."""

import base64
from collections.abc import Iterable
from typing import Any

from .wire import MAX_IMAGES


class Image:
    """An image that is a context: `data` are its bytes, `media_type` is as in `image/png`, its size is in pixels.

    It goes to a model that sees with `llm_query(prompt, images=[image])`.
    """

    __slots__ = ("_name", "data", "height", "media_type", "width")

    def __init__(self, name: str, data: bytes, facts: dict[str, Any]) -> None:
        """`name` is that of the context, by which the host finds it; `facts` are the host's."""
        self._name = name
        self.data = data
        self.media_type = facts["media_type"]
        self.width = facts["width"]
        self.height = facts["height"]

    def __repr__(self) -> str:
        return f"<Image {self.media_type}, {self.width} x {self.height} pixels, {len(self.data):,} bytes>"


Image.__module__ = "__main__"  # as the model's code knows it


def encoded(images: Iterable[Any]) -> list[dict[str, str]]:
    """Return what is sent of images: the names of contexts, the bytes of others. Raise `TypeError` or `ValueError`."""
    if isinstance(images, (bytes, bytearray, str, Image)):
        raise TypeError("images must be a list of images, not one image")
    sent = [_encoded(image) for image in images]
    if len(sent) > MAX_IMAGES:
        raise ValueError(f"at most {MAX_IMAGES} images can go with one question, not {len(sent)}")
    return sent


def _encoded(image: Any) -> dict[str, str]:
    if isinstance(image, Image):
        return {"context": image._name}
    if isinstance(image, (bytes, bytearray)):
        return {"data": base64.b64encode(image).decode()}
    raise TypeError(f"an image must be an image of the context, or bytes, not {type(image).__name__}")
