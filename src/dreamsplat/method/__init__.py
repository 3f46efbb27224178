"""The parts of the paper's loop that know neither models nor Gaussians: lift, cameras, prompts, schedules, state."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
