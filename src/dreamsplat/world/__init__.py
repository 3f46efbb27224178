"""The bundled world: procedural captioned objects, and the two diffusion models trained on them."""
