"""A run in a folder: settings, record, checkpoints, lock, and carrying it out."""
