"""What a run with Stable Diffusion costs, by arithmetic: for a warning before anything is fetched."""

from pathlib import Path

from dreamsplat.priors2d.base import Cost

UNET_FLOPS = 0.8e12
"""Of one evaluation for a latent of 64 x 64, by a UNet of `UNET_BYTES`."""
UNET_BYTES = 1.73e9
"""Of the weights of Stable Diffusion 1.x and 2.x in half precision."""
ENCODER_FLOPS = 1.1e12
"""Of encoding a picture of 512 px; its backward pass takes twice as much."""
TINY_SHARE = 0.04
"""Of a tiny autoencoder's arithmetic in that."""
_XL = 3.0  # Weights, and arithmetic, of an XL checkpoint as a multiple of those of 2.1.


def cost_of_run(steps: int, views: int, render_size: int, resolution: int, tiny_share: float, size: float) -> Cost:
    """Arithmetic and GPU memory of a run; a loss that trains a second network (VSD) takes about three times as long.

    Args:
        steps: Optimisation steps.
        views: Cameras in each.
        render_size: Of the renderings, px.
        resolution: Of the pictures that are encoded, px.
        tiny_share: Share of the run in which a tiny autoencoder encodes.
        size: Of the UNet, as a multiple of Stable Diffusion 2.1's.
    """
    area = (resolution / 512) ** 2
    unet = 2 * UNET_FLOPS * size * area  # with and without the prompt
    encoder = 3 * ENCODER_FLOPS * area * (1 - tiny_share + TINY_SHARE * tiny_share)
    # 13 GB at 512 px and 16 GB at 1024 px with four views, as the author of the official code reports.
    per_view = 2.0 * area * (1.0 if tiny_share < 1 else 0.3) + 0.8 * (render_size / 1024) ** 2
    return Cost(flops=steps * views * (unet + encoder), gigabytes=2 + 2 * size + views * per_view)


def unet_size(model: str | None, is_xl: bool) -> float:
    """The UNet of a model, as a multiple of Stable Diffusion 2.1's: by its files if they are in a folder here."""
    folder = None if model is None else Path(model) / "unet"
    if folder is not None and folder.is_dir():
        sizes = [file.stat().st_size for file in folder.glob("*.safetensors")]
        return max(min(sum(sizes) / UNET_BYTES, 10.0), 1e-6)
    return _XL if is_xl else 1.0
