"""The independent judge: a small classifier that says what a picture of the world shows, and from which side.

It is trained on procedural pictures alone, never on what a diffusion model made, and no model is trained with it. It
sees all pairs of colour and category, including those that the bundled models never see. In training its pictures are
blurred, speckled, tinted and shifted a little, so that it judges a soft or grainy asset as a person would.

Its objects are its own. torch's CPU generator takes seeds modulo 2^32 (so a larger seed would repeat a smaller one's
objects); the seeds here start at `JUDGE_SEED`, which training the bundled models reaches only with a seed of 4,000.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import replacing
from dreamsplat.world.data.pictures import PicturePool, draw_pictures, paint
from dreamsplat.world.language.palette import COLOUR_JITTER, COLOUR_RGB
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, COLOUR_NAMES, check_vocabulary, vocabulary_header
from dreamsplat.world.objects.categories import CATEGORIES

RESOLUTION = 64
"""Height and width of the pictures it judges, px."""
SECTORS = 8
"""Azimuth classes; class k is centred on 45 k degrees."""
JUDGE_SEED = 4_000_000_000
"""Seed of the objects that it learns from."""
TEST_SEED = JUDGE_SEED + 1
"""Seed of the objects that its accuracy is measured on."""
REFERENCE_SEED = JUDGE_SEED + 2
"""Seed of the objects that assets are compared with in shape."""

_WIDTHS = (24, 48, 96, 128)
_HEADS = (len(CATEGORY_NAMES), len(COLOUR_NAMES), SECTORS)
_HAS_FRONT = torch.tensor([category.has_front for category in CATEGORIES.values()])


@dataclass(frozen=True)
class Verdict:
    """What the judge thinks of B pictures: logarithms of probabilities."""

    category: Tensor
    """[B, categories]"""
    colour: Tensor
    """[B, colours]"""
    azimuth: Tensor
    """[B, SECTORS]"""

    def captions(self) -> Tensor:
        """How well each caption fits all B pictures together [colours, categories]: log p(category) + log p(colour)."""
        return self.colour.sum(0)[:, None] + self.category.sum(0)


class Judge(nn.Module):
    """The classifier: six convolutions, 0.3 M parameters, one linear layer for all three questions."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = _WIDTHS
        self.body = nn.Sequential(
            *_block(4, a, 2), *_block(a, b, 2), *_block(b, b, 1), *_block(b, c, 2), *_block(c, c, 1), *_block(c, d, 2)
        )
        self.heads = nn.Linear(d, sum(_HEADS))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of category, colour and azimuth class of model images z [B, 4, 64, 64] (as `paint` makes them)."""
        category, colour, azimuth = self.heads(self.body(z - 0.5).mean(dim=(2, 3))).split(_HEADS, dim=1)
        return category, colour, azimuth

    @torch.no_grad()
    def verdict(self, z: Tensor) -> Verdict:
        """The verdict on model images z [B, 4, 64, 64]."""
        return Verdict(*(logits.log_softmax(dim=1) for logits in self(z)))


def _block(before: int, after: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.GroupNorm(8, after), nn.SiLU()


def azimuth_class(azimuth_deg: Tensor) -> Tensor:
    """The sector [B] of 45 degrees, 0 to 7, that azimuths [B] in degrees fall into; sector 0 is around the front."""
    return (azimuth_deg / (360 / SECTORS)).round().long() % SECTORS


def read_judge(path: Path) -> Judge:
    """The judge that a file holds, in float32, frozen, on the CPU.

    Raises:
        FileProblem: if the file is missing, is not a judge, or was trained on another vocabulary.
    """
    judge = Judge()
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            judge.load_state_dict({key: file.get_tensor(key).float() for key in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise FileProblem(f"{path}: not a judge ({why}).", advice="Train one with benchmarks/quality.py.") from error
    check_vocabulary(path, header)
    return judge.eval().requires_grad_(False)


def write_judge(judge: Judge, path: Path, record: dict[str, float]) -> None:
    """Write the judge in half precision; `record` (how it was trained, how good it is) goes into the header."""
    weights = {name: value.half().contiguous() for name, value in judge.state_dict().items()}
    with replacing(path) as partial:
        save_file(weights, partial, vocabulary_header() | {"record": json.dumps(record)})


@dataclass(frozen=True)
class JudgeTraining:
    """How to train the judge."""

    instances: int = 40
    """Objects per category."""
    views: int = 24
    """Pictures of each object."""
    samples: int = 160_000
    """Pictures seen in training, each in a new colour and spoilt in a new way."""
    batch: int = 64
    """Pictures per step."""
    learning_rate: float = 3e-3
    """Adam's highest rate: it rises over the first twentieth and then falls to 0 as a cosine."""


def train_judge(settings: JudgeTraining, say: Callable[[str], None]) -> Judge:
    """Train a judge from scratch, in minutes on one core; `say` receives lines of progress."""
    generator = torch.Generator().manual_seed(JUDGE_SEED)
    pool = draw_pictures(settings.instances, settings.views, RESOLUTION, generator)
    say(f"{len(pool.category):,} pictures drawn")
    judge = Judge()
    _initialise(judge, generator)
    steps = settings.samples // settings.batch
    optimiser = torch.optim.AdamW(judge.parameters(), lr=settings.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step / steps))
    for step in range(steps):
        z, truth = _draw(pool, torch.randint(len(pool.category), (settings.batch,), generator=generator), generator)
        losses = _losses(judge(spoil(z, generator)), truth)
        optimiser.zero_grad()
        losses.sum().backward()
        optimiser.step()
        schedule.step()
        if step % 200 == 0 or step == steps - 1:
            values = ", ".join(f"{loss:.3f}" for loss in losses.tolist())
            say(f"step {step} of {steps}: losses of category, colour, azimuth {values}")
    return judge.eval().requires_grad_(False)


def measure_judge(judge: Judge, instances: int = 8, views: int = 24, spoilt: bool = False) -> dict[str, float]:
    """The share of correct answers on single pictures of fresh objects from random cameras of the world, 0 to 1.

    Args:
        judge: the judge.
        instances: objects per category.
        views: pictures of each object.
        spoilt: spoil the pictures as in training.
    """
    generator = torch.Generator().manual_seed(TEST_SEED)
    pool = draw_pictures(instances, views, RESOLUTION, generator)
    hits: list[Tensor] = []
    for rows in torch.arange(len(pool.category)).split(256):
        z, truth = _draw(pool, rows, generator)
        answers = judge(spoil(z, generator) if spoilt else z)
        hits.append(torch.stack([a.argmax(1) == t for a, t in zip(answers, truth, strict=True)], dim=1))
    right = torch.cat(hits).float()
    has_front = _HAS_FRONT[pool.category]
    category, colour, _ = right.mean(0).tolist()
    per_category = {
        f"azimuth, {name}": float(right[pool.category == index, 2].mean())
        for index, name in enumerate(CATEGORY_NAMES)
        if _HAS_FRONT[index]
    }
    return {"category": category, "colour": colour, "azimuth": float(right[has_front, 2].mean())} | per_category


def spoil(z: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures z [B, 4, H, W] as a mediocre asset might look: moved, blurred, thinned, tinted, grainy."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(z), *shape, generator=generator)

    def grain(size: int, level: Tensor) -> Tensor:
        noise = torch.randn(len(z), 4, size, size, generator=generator)
        return level * functional.interpolate(noise, size=z.shape[-2:], mode="bilinear", align_corners=False)

    z = _moved(z, zoom=uniform(0.88, 1.12), roll_deg=uniform(-4, 4), shift=uniform(-0.08, 0.08, 2))
    z = torch.lerp(z, _blurred(z, sigma_px=0.6 + float(torch.rand((), generator=generator))), uniform(0, 1, 1, 1, 1))
    z = z * uniform(0.75, 1.0, 1, 1, 1) * (1 + grain(8, uniform(0, 0.15, 1, 1, 1))[:, :1]).clamp(0.3, 1.0)
    tint = 1 + 0.06 * torch.randn(len(z), 3, 1, 1, generator=generator)
    z = torch.cat([z[:, :3] * tint, z[:, 3:]], dim=1)
    z = z + grain(z.shape[-1], uniform(0, 0.12, 1, 1, 1)) + grain(z.shape[-1] // 4, uniform(0, 0.08, 1, 1, 1))
    return z.clamp(0, 2)


def _moved(z: Tensor, zoom: Tensor, roll_deg: Tensor, shift: Tensor) -> Tensor:
    """Pictures zoomed [B], turned [B] and shifted [B, 2] (in half widths), black outside the original."""
    cos, sin = torch.deg2rad(roll_deg).cos() / zoom, torch.deg2rad(roll_deg).sin() / zoom
    rows = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = functional.affine_grid(rows, list(z.shape), align_corners=False)
    return functional.grid_sample(z, grid, align_corners=False)


def _blurred(z: Tensor, sigma_px: float, reach: int = 4) -> Tensor:
    """Pictures under a Gaussian blur."""
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(4, 1, 1, -1)
    across = functional.conv2d(z, kernel, padding=(0, reach), groups=4)
    return functional.conv2d(across, kernel.mT, padding=(reach, 0), groups=4)


def _draw(pool: PicturePool, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """The pictures of some rows [B] in random colours, any of the ten, and the three true answers [B]."""
    colour = torch.randint(len(COLOUR_NAMES), (len(rows),), generator=generator)
    rgb = COLOUR_RGB[colour] + COLOUR_JITTER * torch.randn(len(rows), 3, generator=generator)
    z = paint(pool.layers[rows].float() / 255, rgb.clamp(0, 1))
    _, sin, cos, _, _ = pool.camera[rows].unbind(1)
    azimuth = azimuth_class(torch.rad2deg(torch.atan2(sin, cos)))
    return z, (pool.category[rows], colour, azimuth)


def _losses(answers: tuple[Tensor, Tensor, Tensor], truth: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The three cross-entropies [3]; the azimuth counts where an object has a front.

    Smoothed labels keep the judge from being so sure of one picture that it outweighs seven others.
    """
    category, colour, azimuth = (
        functional.cross_entropy(a, t, reduction="none", label_smoothing=0.05)
        for a, t in zip(answers, truth, strict=True)
    )
    fronts = _HAS_FRONT[truth[0]].float()
    return torch.stack([category.mean(), colour.mean(), (azimuth * fronts).sum() / fronts.sum().clamp_min(1)])


def _initialise(judge: Judge, generator: torch.Generator) -> None:
    for module in judge.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(judge.heads.bias)


def _rate(progress: float) -> float:
    """Share of the highest learning rate, at a progress of 0 to 1."""
    return min(1.0, progress / 0.05 + 0.01) * 0.5 * (1 + math.cos(math.pi * progress))
