from .background import Background
from .camera_range import CameraRange, ElevationSampling
from .cameras import make_views, orbit, sample_views
from .lift import grow_points, initial_scales, perturb_colours, to_gaussians
from .noise_levels import sigma_of_time, time_of_sigma
from .prompts import NEGATIVE_PROMPT, view_prompts, view_word
from .schedule import AnnealedTimes, GradientClip, Times

__all__ = [
    "NEGATIVE_PROMPT",
    "AnnealedTimes",
    "Background",
    "CameraRange",
    "ElevationSampling",
    "GradientClip",
    "Times",
    "grow_points",
    "initial_scales",
    "make_views",
    "orbit",
    "perturb_colours",
    "sample_views",
    "sigma_of_time",
    "time_of_sigma",
    "to_gaussians",
    "view_prompts",
    "view_word",
]
