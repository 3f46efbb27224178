"""Files of Gaussians: `save` chooses the format by the ending of the name, `load` by what is in the file.

To add a format, write a module with `write(gaussians, path)` and `read(path)`, describe it in `base.py`, and add its
line to `registry.py`; or register it from a package of your own (docs/extending.md).
"""

from dreamsplat.formats.base import FORMATS, Format
from dreamsplat.formats.loading import in_float32, load, read, read_asset
from dreamsplat.formats.saving import save

__all__ = ["FORMATS", "Format", "in_float32", "load", "read", "read_asset", "save"]
