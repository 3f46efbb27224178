"""What can be done with an asset: select, join, move, turn, scale, crop, recolour, prune, draw."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
