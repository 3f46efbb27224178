"""Refusing mesh files that would become much larger in memory, before trimesh builds them; `gltf_mesh` has its own."""

from pathlib import Path

from dreamsplat.files.atomic import refuse

MOST_PARTS = 2000
"""Uses of materials in an .obj, solids of an .stl: each costs some time."""


def check_parts(path: Path, kind: str, content: bytes) -> None:
    """Refuse a file that has very many parts.

    Args:
        path: The file, for messages.
        kind: The suffix without its dot.
        content: What is in it.

    Raises:
        FileProblem: saying what there is too much of.
    """
    word = {"stl": b"endsolid", "obj": b"usemtl"}.get(kind)
    if word is not None and (count := content.count(word)) > MOST_PARTS:
        refuse(path, f"{count} times '{word.decode()}', at most {MOST_PARTS}", "Join its parts first.")
