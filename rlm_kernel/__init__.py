"""A runtime for Recursive Language Models (arXiv 2512.24601)."""

__version__ = "0.1.0"
