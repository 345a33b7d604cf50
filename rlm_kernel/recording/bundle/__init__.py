"""Bundles: a run as one file, to hand on."""
