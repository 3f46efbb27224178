"""Which extensions a glTF may require: a required one that is not understood changes what the file shows."""

from importlib.util import find_spec

from dreamsplat.errors import MissingDependency
from dreamsplat.files.checked_json import shown
from dreamsplat.files.gltf import Glb

DRACO = "KHR_draco_mesh_compression"
"""Compressed primitives, which DracoPy decodes."""
UNDERSTOOD = (
    DRACO, "KHR_mesh_quantization", "KHR_texture_transform", "EXT_mesh_gpu_instancing", "KHR_gaussian_splatting",
    "KHR_node_visibility", "EXT_texture_webp",
)  # fmt: skip
"""Extensions that are read."""
_HARMLESS = (
    "KHR_materials_", "KHR_lights_", "KHR_xmp", "KHR_animation_pointer", "KHR_audio", "KHR_interactivity",
    "KHR_physics", "EXT_lights_", "EXT_mesh_manifold", "EXT_mesh_features", "EXT_structural_metadata",
    "EXT_instance_features", "MSFT_lod", "VRM", "GODOT_",
)  # fmt: skip
"""Beginnings of extensions that change neither shape nor place."""
_ADVICE = {
    "EXT_meshopt_compression": "Export it without meshopt compression, gltfpack without -c.",
    "KHR_meshopt_compression": "Export it without meshopt compression, gltfpack without -c.",
    "KHR_texture_basisu": "Export its textures as PNG or JPEG.",
}


def check_required(glb: Glb) -> None:
    """Refuse a file that requires an extension which cannot be read.

    Raises:
        FileProblem: naming the extension and the way out.
        MissingDependency: if it is Draco, and DracoPy is not installed.
    """
    for name in glb.listing(glb.json, "extensionsRequired"):
        if not isinstance(name, str) or (name not in UNDERSTOOD and not name.startswith(_HARMLESS)):
            advice = _ADVICE.get(name, "Export it without.") if isinstance(name, str) else "The file is damaged."
            glb.refuse(f"it requires the extension {shown(name)}, which cannot be read", advice)
        if name == DRACO and find_spec("DracoPy") is None:
            advice = "Run pip install DracoPy, or export it without Draco compression."
            raise MissingDependency(f"{glb.path}: it is compressed by Draco ({DRACO}).", advice=advice)
