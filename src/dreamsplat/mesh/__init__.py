"""Meshes: a closed, coloured surface of an asset, files that hold one, and reading the meshes of others."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
