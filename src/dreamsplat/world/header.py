"""Headers of the bundled models' weights files: what a network is and which words it knows, without loading it."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dreamsplat.errors import FileProblem
from dreamsplat.world.language.vocabulary import check_vocabulary

WEIGHTS = Path(__file__).parent / "weights"
IMAGE_WEIGHTS = WEIGHTS / "image.safetensors"
VOLUME_WEIGHTS = WEIGHTS / "volume.safetensors"
REMEDY = "Train the model, or reinstall dreamsplat if it is a bundled one."


def read_sizes(path: Path) -> dict[str, Any]:
    """The sizes of the network whose weights a file holds.

    Raises:
        FileProblem: if the file is missing, is not such a file, or its model was trained on another vocabulary.
    """
    if not os.path.isfile(path):  # which, unlike Path.is_file, takes a name of any length
        raise FileProblem(f"{path}: no such weights file.", advice=REMEDY)
    try:
        with safe_open(path, "np") as file:
            header = file.metadata()
            sizes = json.loads(header["config"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FileProblem(f"{path}: not a dreamsplat weights file ({error}).", advice=REMEDY) from error
    check_vocabulary(path, header)
    return sizes
