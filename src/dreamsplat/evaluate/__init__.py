"""Measuring assets: an independent judge of the bundled world."""
