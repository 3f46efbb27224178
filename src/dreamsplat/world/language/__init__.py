"""The words of the bundled world."""
