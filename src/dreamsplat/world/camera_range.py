"""Where the world's pictures are taken from; the bundled 2D model knows no other cameras."""

from dreamsplat.method.camera_range import CameraRange

WORLD_DISTANCE = (2.7, 3.3)
"""Nearest and farthest camera, world units."""
WORLD_ELEVATION_DEG = (-10.0, 60.0)
"""Lowest and highest camera; the paper's range."""
WORLD_FOV_Y_DEG = 40.0
"""Vertical field of view: the unit ball just fits."""

WORLD_CAMERAS = CameraRange(
    elevation_deg=WORLD_ELEVATION_DEG,
    distance=WORLD_DISTANCE,
    fov_y_deg=(WORLD_FOV_Y_DEG, WORLD_FOV_Y_DEG),
    elevation_sampling="uniform",
)
"""All of it as the range that views are drawn from."""
