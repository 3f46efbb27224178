"""Training data of the bundled models: captioned pictures and shapes."""
