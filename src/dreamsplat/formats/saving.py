"""Saving an asset: its values are checked, and the ending of the file's name chooses the format."""

from os import PathLike
from pathlib import Path

import torch

from dreamsplat.assets.radiance_field import RadianceField
from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.files import kinds
from dreamsplat.formats.base import FORMATS, ending_of
from dreamsplat.formats.field_file import write_field
from dreamsplat.types import AbstractAsset, Gaussians


def save(asset: AbstractAsset, path: str | PathLike[str]) -> None:
    """Write an asset's Gaussians, or a radiance field itself as .safetensors; an existing file is replaced in one step.

    Args:
        asset: its Gaussians have finite values, scales > 0, opacities in [0, 1] and quaternions of any non-zero length;
            any device.
        path: its suffix chooses the format, see `FORMATS`.

    Raises:
        FileProblem: if the suffix is unknown, or the file cannot be written.
        InvalidInput: if a value is not finite or outside its range.
    """
    path = Path(path)
    if path.suffix.lower() == kinds.FIELD.ending:
        if not isinstance(asset, RadianceField):
            raise FileProblem(f"{path}: holds a radiance field, not Gaussians.", advice="Save them as .ply.")
        return write_field(asset, path)
    if path.name.lower().endswith(kinds.EXPORTS):
        raise FileProblem(f"{path}: such files hold no Gaussians.", advice="Write them with `dreamsplat convert`.")
    ending = ending_of(path)
    if ending is None:
        known = ", ".join(sorted(FORMATS))
        raise FileProblem(f"{path}: Gaussians cannot be saved as '{path.suffix}'.", advice=f"Known endings: {known}.")
    gaussians = asset.gaussians()
    _check_values(gaussians)
    return FORMATS[ending].write(gaussians.detach(), path)


def _check_values(gaussians: Gaussians) -> None:
    # As float32, because that is what files hold.
    rules = {
        f"{name}: a value is NaN or infinite": torch.isfinite(values.float())
        for name, values in gaussians.tensors().items()
    }
    rules["scales: a value is not above 0"] = gaussians.scales > 0
    rules["opacities: a value is outside [0, 1]"] = (gaussians.opacities >= 0) & (gaussians.opacities <= 1)
    rules["quats: a quaternion is 0 0 0 0"] = (gaussians.quats.float() != 0).any(dim=-1)
    for complaint, holds in rules.items():
        if not bool(holds.all()):
            bad = ~holds.reshape(len(gaussians), -1).all(dim=-1)
            where = f"Gaussian {int(bad.nonzero()[0])}, {int(bad.sum())} in all"
            raise InvalidInput(f"{complaint} ({where}); nothing was written.", advice="Remove those Gaussians first.")
