"""Pure functions of tensors: rotations, neighbours, spherical harmonics, colour curves, noise."""
