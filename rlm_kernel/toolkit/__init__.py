"""What code at both ends works on long texts with: standard library alone, and nothing else of this package."""

from .chunks import DEFAULT_SIZE, DEFAULT_STRATEGY, STRATEGIES, Chunk, Strategy, chunk

__all__ = ["DEFAULT_SIZE", "DEFAULT_STRATEGY", "STRATEGIES", "Chunk", "Strategy", "chunk"]
