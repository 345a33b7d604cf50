"""A run as a document: a notebook, a page, Markdown, or its records; inert whoever opens it."""
