"""Measuring assets, by an independent judge of the bundled world; and contracts for everything that can be added."""
