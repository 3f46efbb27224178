"""Settings of priors: light to import, checked where they are made, and refused before anything is loaded."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"torch", "diffusers", "transformers", "huggingface_hub", "PIL", "scipy", "numpy", "dreamsplat.formats"}


def modules_after(imports: str) -> set[str]:
    """Names of all modules that a fresh interpreter holds after an import statement."""
    code = f"import sys, {imports}; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_settings_of_priors_import_nothing_heavy():
    assert not HEAVY & modules_after("dreamsplat.priors2d, dreamsplat.priors3d, dreamsplat.hub.fetch")
