"""Compares a run with what it gave when it ran again: cell by cell, texts and outputs, without running anything."""
