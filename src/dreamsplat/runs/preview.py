"""The pictures of a run: a contact sheet while it goes, a film when it is done."""

from __future__ import annotations

import logging
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamsplat.assets.draw import Frames, draw, draw_points
from dreamsplat.assets.sheet import contact_sheet
from dreamsplat.files.atomic import replacing
from dreamsplat.formats.png import write_png
from dreamsplat.formats.video import write_turntable
from dreamsplat.method.cameras import orbit
from dreamsplat.runs.folder import FILM, FIRST_ROWS, PREVIEW, Pictures
from dreamsplat.types import AbstractAsset, Cameras, PointCloud

VIEWS = 6
"""Pictures in a row of the preview, evenly around the object."""

_log = logging.getLogger(__name__)


class Preview:
    """Rows of pictures: the 3D prior's cloud, the first asset, the current one."""

    def __init__(self, folder: Path, pictures: Pictures) -> None:
        """Without rows: `begin` draws the first ones, `resume` finds them."""
        self.folder, self.pictures = folder, pictures
        self.rows: list[tuple[str, Tensor]] = []  # label, images [6, H, W, 3]

    def resume(self) -> None:
        """Take the first rows that an earlier part of the run left."""
        self.rows = _read_rows(self.folder / FIRST_ROWS)

    def begin(self, asset: AbstractAsset, cloud: PointCloud | None) -> None:
        """Draw and keep the first rows: the cloud, if there is one, and the asset that the run begins with."""
        rows = [(f"initial\n{asset.size}", draw(asset, self._cameras()))]
        if cloud is not None:
            rows.insert(0, (f"3D prior\n{len(cloud):,} points", draw_points(cloud, self._cameras())))
        stored = {label: (255 * images.clamp(0, 1)).round().byte() for label, images in rows}
        with replacing(self.folder / FIRST_ROWS) as temporary:
            save_file(stored, temporary)
        # As they are read back, so that a resumed run draws the same preview.
        self.rows = [(label, images / 255) for label, images in stored.items()]

    def write(self, asset: AbstractAsset, word: str, step: int, total: int) -> Path:
        """Write the contact sheet, its last row labelled with a word such as "now"; returns its path."""
        label = f"{word}\nstep {step} of {total}\n{asset.size}"
        rows = [*self.rows, (label, draw(asset, self._cameras()))]
        azimuths = [f"{degrees}\N{DEGREE SIGN}" for degrees in range(0, 360, 360 // VIEWS)]
        write_png(contact_sheet(rows, azimuths), self.folder / PREVIEW)
        return self.folder / PREVIEW

    def write_film(self, asset: AbstractAsset) -> Path:
        """Write the turntable; returns its path."""
        views = orbit(self.pictures.film_frames, size=self.pictures.film_px)
        return write_turntable(Frames(asset, views.cameras), self.folder / FILM)

    def _cameras(self) -> Cameras:
        return orbit(VIEWS, size=self.pictures.preview_px).cameras


def _read_rows(path: Path) -> list[tuple[str, Tensor]]:
    """The preview's first rows: label, images [6, H, W, 3]; none if there is no such file, or it is damaged."""
    try:
        return [(label, images / 255) for label, images in load_file(path).items()]
    except FileNotFoundError:
        return []
    except (SafetensorError, OSError) as error:
        _log.warning("%s is damaged (%s): the preview lacks its first rows.", path, error)
        return []
