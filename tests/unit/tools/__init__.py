"""Host tools."""
