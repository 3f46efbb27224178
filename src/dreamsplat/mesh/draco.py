"""Primitives of a glTF that are compressed by Draco (KHR_draco_mesh_compression), which DracoPy decodes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsplat.files.gltf import Glb
from dreamsplat.files.gltf_extensions import DRACO


def decoded(glb: Glb, primitive: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """The compressed attributes of a primitive as stored, and its "indices" [C, 1].

    None if it is not compressed, or if DracoPy is not installed: where Draco is not required, the file holds the same
    numbers again.

    Raises:
        FileProblem: if they are damaged.
    """
    settings = glb.extension(primitive, DRACO)
    if settings is None:
        return {}
    try:
        import DracoPy  # pyright: ignore[reportMissingImports]
    except ImportError:
        return {}
    compressed = bytes(glb.view(settings.get("bufferView")))
    try:
        mesh: Any = DracoPy.decode(compressed)
        by_id = {attribute["unique_id"]: np.asarray(attribute["data"]) for attribute in mesh.attributes}
    except Exception:  # The decoder fails in any way on damaged bytes.
        glb.refuse("its Draco data are damaged", "Export it again, without Draco compression.")
    names = glb.mapping(settings.get("attributes", {}), "attributes")
    found = {name: by_id[place] for name, place in names.items() if isinstance(place, int) and place in by_id}
    indices = np.asarray(getattr(mesh, "faces", []), np.int64).reshape(-1, 1)
    return {name: rows.reshape(len(rows), -1) for name, rows in found.items()} | {"indices": indices}
