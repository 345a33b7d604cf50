"""The host's end of the framed stream."""

from rlm_kernel.stream.endpoint import Endpoint

__all__ = ["Endpoint"]
