"""Answers the sub-calls that a sandbox's cells make."""

from rlm_kernel.bridge.bridge import Bridge
from rlm_kernel.bridge.images import Images, StoredImage
from rlm_kernel.bridge.kinds import Models, Offer, Refusal, context_digest
from rlm_kernel.bridge.messages import SubcallMessage, ToolMessage
from rlm_kernel.bridge.told import KnownFailure

__all__ = [
    "Bridge",
    "Images",
    "KnownFailure",
    "Models",
    "Offer",
    "Refusal",
    "StoredImage",
    "SubcallMessage",
    "ToolMessage",
    "context_digest",
]
