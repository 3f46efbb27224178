"""Procedural objects of the bundled world."""
