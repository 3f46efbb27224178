"""How long is one step with Stable Diffusion, and its parts? At full size, with random weights, without a download.

    python benchmarks/step.py                                   # on a GPU if there is one
    python benchmarks/step.py --device cpu --steps 1 --sizes 512

Time depends on the shapes of the weights and not on their values, so a checkpoint in the real format is made once, with
the architecture of Stable Diffusion 2.1-base (UNet 866 M parameters, autoencoder 84 M) and of its tiny autoencoder, and
loaded as any other. The Gaussians fill a ball. What is measured is written in benchmarks/README.md.
"""

from __future__ import annotations

import shlex
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from provenance import provenance

from dreamsplat import PRESETS, DreamConfig, Gaussians, render
from dreamsplat.errors import DreamsplatError
from dreamsplat.guidance import describe, every_prompt
from dreamsplat.method.cameras import sample_views
from dreamsplat.method.devices import resolve_device
from dreamsplat.method.lift import to_gaussians
from dreamsplat.method.noise_levels import sigma_of_time
from dreamsplat.priors2d import AbstractImagePrior, StableDiffusion
from dreamsplat.representations.params import SplatParams
from dreamsplat.types import PointCloud

PARTS = ("render", "encode", "network", "backward", "optimiser")
PROMPT = "an amigurumi motorcycle"


@dataclass(frozen=True)
class StepBenchmark:
    """Time the steps of presets that use Stable Diffusion."""

    presets: tuple[str, ...] = ("gaussiandreamer", "fast")
    """Which presets."""
    sizes: tuple[int, ...] = (512, 1024)
    """Render sizes, px."""
    steps: int = 20
    """Timed steps per line; the median is shown."""
    gaussians: int = 100_000
    """Gaussians in the scene."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run."""
    dtype: Literal["auto", "fp16", "bf16", "fp32"] = "auto"
    """Precision of the networks."""
    checkpoint: Path | None = None
    """Folder of the random checkpoint, made if it is not there (2 GB); None makes it in a temporary folder."""


def save_random_checkpoint(folder: Path) -> None:
    """Stable Diffusion 2.1-base's architecture with random weights in fp16; the text encoder has one layer only."""
    from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    down, up = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
    unet = UNet2DConditionModel(
        sample_size=64, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True,
        block_out_channels=(320, 640, 1280, 1280), layers_per_block=2,
        down_block_types=(down, down, down, "DownBlock2D"), up_block_types=("UpBlock2D", up, up, up),
    )  # fmt: skip
    unet.half().save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=768, scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).half().save_pretrained(folder / "vae")  # fmt: skip
    AutoencoderTiny().half().save_pretrained(folder.with_name(folder.name + "-tiny"))
    letters = [*"abcdefghijklmnopqrstuvwxyz,", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz,")]
    vocabulary = {word: index for index, word in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(folder / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=1024, intermediate_size=4096, num_attention_heads=16,
        num_hidden_layers=1, bos_token_id=len(vocabulary) - 2, eos_token_id=len(vocabulary) - 1,
    )  # fmt: skip
    CLIPTextModel(text).half().save_pretrained(folder / "text_encoder")
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="epsilon"
    ).save_pretrained(folder / "scheduler")


class Stopwatch:
    """Seconds per part, waiting for the device at both ends."""

    def __init__(self, device: torch.device) -> None:
        """Begin with nothing."""
        self.device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time a block."""
        began = self._now()
        yield
        self.seconds[part].append(self._now() - began)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def time_step(
    config: DreamConfig,
    prior: AbstractImagePrior,
    params: SplatParams,
    progress: float,
    watch: Stopwatch,
    generator: torch.Generator,
) -> None:
    """One step as in dream.py, each part under the stopwatch."""
    device = watch.device
    views = sample_views(config.cameras, config.views, config.render_size, generator).to(device)
    with watch("render"):
        image = render(params.gaussians(), views.cameras)
    with watch("encode"):
        z = prior.encode(image, progress, generator)
    with watch("network"):
        sigma = sigma_of_time(config.times.draw(0, config.steps, config.views, generator)).to(device)
        conditions = describe(prior, views, PROMPT, config.negative_prompt, config.view_text)
        gradient = config.clip.apply(config.loss.grad(prior, z.detach(), sigma, conditions, generator), 0)
    with watch("backward"):
        z.backward(gradient / config.views)
    with watch("optimiser"):
        params.step()


def ball(gaussians: int) -> Gaussians:
    """The first Gaussians of a run whose points fill a ball, in random colours."""
    generator = torch.Generator().manual_seed(0)
    outward = torch.nn.functional.normalize(torch.randn(gaussians, 3, generator=generator), dim=1)
    radius = 0.8 * torch.rand(gaussians, 1, generator=generator) ** (1 / 3)
    return to_gaussians(PointCloud(radius * outward, torch.rand(gaussians, 3, generator=generator)))


def lines(args: StepBenchmark, folder: Path, device: torch.device) -> Iterator[str]:
    """The table, and the time of whole runs."""
    yield f"| preset | px | encoder | {', ms | '.join(PARTS)}, ms | step, ms | share of the run | peak, GB |"
    yield "|---" * (6 + len(PARTS)) + "|"
    scene, totals = ball(args.gaussians).to(device), []
    for name in args.presets:
        preset = PRESETS[name]
        assert isinstance(preset.prior2d, StableDiffusion), f"{name} does not use Stable Diffusion"
        tiny = f"{folder}-tiny" if preset.prior2d.tiny_autoencoder else None
        spec = replace(preset.prior2d, model=str(folder), tiny_autoencoder=tiny, dtype=args.dtype)
        prior = spec.load(device)
        prior.prepare(every_prompt(PROMPT, preset.negative_prompt))
        share = spec.tiny_until if tiny else 0.0
        for size in args.sizes:
            config, total_ms = replace(preset, render_size=size), 0.0
            for encoder, progress, part in (("tiny", 0.0, share), ("full", 1.0, 1 - share)):
                if part == 0:
                    continue
                ms, peak_gb = time_steps(config, prior, scene, progress, args.steps)
                total_ms += part * config.steps * sum(ms)
                columns = " | ".join(f"{t:.1f}" for t in ms)
                yield f"| {name} | {size} | {encoder} | {columns} | {sum(ms):.1f} | {part:.0%} | {peak_gb:.1f} |"
            totals.append(f"{name}, {size} px: {total_ms / 1e3:,.0f} s for {config.steps} steps.")
    yield "\n" + "\n".join(totals)


def time_steps(
    config: DreamConfig, prior: AbstractImagePrior, scene: Gaussians, progress: float, steps: int
) -> tuple[list[float], float]:
    """Median ms of each part over some steps after one that does not count, and the peak of the device's memory, GB."""
    device = scene.means.device
    watch, generator = Stopwatch(device), torch.Generator().manual_seed(0)
    params = SplatParams.from_gaussians(scene, config.representation.rates)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(steps + 1):
        time_step(config, prior, params, progress, watch, generator)
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else float("nan")
    return [1e3 * statistics.median(watch.seconds[part][1:]) for part in PARTS], peak


def main(arguments: list[str]) -> int:
    """Run the benchmark and return the exit code."""
    args = tyro.cli(StepBenchmark, args=arguments, description=__doc__)
    try:
        device = resolve_device(args.device)
        told = provenance(f"python benchmarks/step.py {shlex.join(arguments)}".strip())
        where = f"{torch.cuda.get_device_name(device)}, " if device.type == "cuda" else ""
        print(f"{where}{told['machine']}, commit {told['commit']}, {told['date']}: `{told['command']}`\n")
        with tempfile.TemporaryDirectory() as temporary:
            folder = args.checkpoint or Path(temporary) / "stable-diffusion"
            if not (folder / "scheduler").is_dir():
                save_random_checkpoint(folder)
            for line in lines(args, folder, device):
                print(line, flush=True)
    except DreamsplatError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
