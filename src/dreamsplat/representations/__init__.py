"""What is optimised: 3D Gaussians, behind one interface."""
