"""One resumable trainer for both bundled diffusion models: sessions of any length, each with usable weights.

A session loads the checkpoint if there is one, trains for a number of minutes, writes checkpoints on the way
(atomically) and stops. The weights that are shipped are an exponential moving average whose memory is a fixed fraction
of the training so far (Karras et al. 2024, "EDM2", section 3.1), so training can always be continued.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import replacing
from dreamsplat.method.devices import multiplies_bfloat16
from dreamsplat.world.language.vocabulary import check_vocabulary, vocabulary_header
from dreamsplat.world.nets.diffusion import Noise, broadcast, denoising_loss
from dreamsplat.world.training.processes import average_weights, process_count, process_rank, share_weights

Batches = Iterator[tuple[Tensor, Tensor]]
"""Yields clean samples [B, ...] and packed conditions [B, ...]."""


@dataclass(frozen=True)
class TrainerSettings:
    """How to train; the same for both models."""

    minutes: float = 60.0
    """Length of the session."""
    learning_rate: float = 5e-4
    """Adam's rate until `decay_samples`, falling with the inverse square root of the samples seen after it."""
    decay_samples: float = 200_000.0
    """Samples after which the rate starts to fall (EDM2, eq. 67)."""
    warmup_samples: float = 6_000.0
    """Samples over which the rate rises from 0."""
    gradient_norm: float = 1.0
    """Gradients are clipped to this norm."""
    ema_fraction: float = 0.08
    """Memory of the average, as a fraction of the samples seen so far."""
    bf16: bool = True
    """Multiply matrices in bfloat16 where the device does so in hardware."""
    meet_steps: int = 8
    """Steps between averages of the weights of processes that train together."""
    report_seconds: float = 30.0
    """Seconds between lines of the log."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints."""


class Trainer:
    """A model, its average, its optimiser and its counters: everything a checkpoint holds."""

    def __init__(
        self, model: nn.Module, noise: Noise, config: TrainerSettings, device: torch.device, samples: int = 0
    ) -> None:
        """Start from the model's weights, which have seen `samples`; the trainer owns the model from here on."""
        self.model = model.to(device)
        share_weights(self.model)
        self.noise = noise
        self.config = config
        self.device = device
        self.bf16 = config.bf16 and multiplies_bfloat16(device)
        self.average = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        self.samples = self.cold_start = samples
        self.seconds = 0.0
        self.steps = 0

    def rate(self) -> float:
        """The learning rate at the samples seen so far."""
        c = self.config
        decay = max(self.samples / c.decay_samples, 1.0) ** -0.5
        warm = (self.samples - self.cold_start) / c.warmup_samples
        return c.learning_rate * decay * min(warm + 1e-2, 1.0)

    def step(self, clean: Tensor, packed: Tensor, generator: torch.Generator) -> float:
        """One optimisation step on a batch; returns the loss, about 1 for an untrained network."""
        sigma = self.noise.draw_sigmas(len(clean), generator)
        normal = torch.randn(clean.shape, generator=generator)
        clean, packed, sigma, normal = (t.to(self.device) for t in (clean, packed, sigma, normal))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            estimate = self.model(clean + broadcast(sigma, clean) * normal, sigma, packed)
        loss = denoising_loss(estimate.float(), clean, sigma, self.noise.sigma_data)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.optimiser.step()
        count = len(clean) * process_count()
        self.samples += count
        self._update_average(count)
        self.steps += 1
        return float(loss.detach())

    def meet(self, stop: bool) -> bool:
        """Every `meet_steps` steps, average weights with the other processes; returns whether all should stop now."""
        return average_weights(self.model, stop) if self.steps % self.config.meet_steps == 0 else False

    @torch.no_grad()
    def _update_average(self, count: int) -> None:
        keep = max(0.0, 1 - count / (self.config.ema_fraction * self.samples))
        parameters = [p.detach() for p in self.model.parameters()]
        for mean, value in zip(self.average.values(), parameters, strict=True):
            mean.lerp_(value, 1 - keep)

    def save(self, path: Path) -> None:
        """Write everything to a safetensors file, atomically."""
        tensors = {f"average.{k}": v for k, v in self.average.items()}
        for name, p in self.model.named_parameters():
            tensors[f"model.{name}"] = p.detach()
            state = self.optimiser.state.get(p, {})
            for key in ("exp_avg", "exp_avg_sq"):
                if key in state:
                    tensors[f"{key}.{name}"] = state[key]
        steps = max((float(s["step"]) for s in self.optimiser.state.values()), default=0.0)
        counters = self.record() | {"steps": steps, "cold_start": self.cold_start}
        with replacing(path) as partial:
            header = vocabulary_header() | {"counters": json.dumps(counters)}
            save_file({k: v.contiguous() for k, v in tensors.items()}, partial, header)

    def load(self, path: Path) -> None:
        """Continue from a file that `save` wrote.

        Raises:
            FileProblem: if it is not a checkpoint, or one of another network or vocabulary.
        """
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata()
                counters = json.loads(header["counters"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except Exception as error:
            raise FileProblem(f"{path}: not a training checkpoint ({error}). Delete it to start again.") from error
        check_vocabulary(path, header)
        shapes = {name: p.shape for name, p in self.model.named_parameters()}
        if {name: tensors[key].shape for name in shapes if (key := f"model.{name}") in tensors} != shapes:
            raise FileProblem(f"{path}: a checkpoint of another network.", advice="Use its sizes, or another folder.")
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(tensors[f"model.{name}"])
                self.average[name].copy_(tensors[f"average.{name}"])
                self.optimiser.state[p] = {
                    "step": torch.tensor(float(counters["steps"])),
                    "exp_avg": tensors[f"exp_avg.{name}"].to(p),
                    "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(p),
                }
        self.samples, self.seconds = int(counters["samples"]), counters["seconds"]
        self.cold_start = int(counters["cold_start"])

    def record(self) -> dict[str, float]:
        """How long this has trained: samples seen, and seconds in steps since the folder's first session."""
        return {"samples": self.samples, "seconds": round(self.seconds, 1)}

    def average_weights(self) -> dict[str, Tensor]:
        """The averaged weights in half precision, as they are shipped."""
        return {name: value.to(torch.float16).contiguous().cpu() for name, value in self.average.items()}


def train(trainer: Trainer, batches: Batches, folder: Path, say: Callable[[str], None], seed: int) -> None:
    """Train for one session, resuming from and writing `folder`/checkpoint.safetensors and `folder`/log.jsonl."""
    checkpoint, config = folder / "checkpoint.safetensors", trainer.config
    if checkpoint.exists():
        trainer.load(checkpoint)
        say(f"resumed after {trainer.samples:,} samples, {trainer.seconds / 60:.0f} minutes")
    log = _Log(trainer, folder / "log.jsonl", say if process_rank() == 0 else None)
    generator = torch.Generator().manual_seed(seed + trainer.samples + 1_000_003 * process_rank())
    began = saved = time.monotonic()
    stopped = False
    while not stopped:
        clean, packed = next(batches)
        tick = time.monotonic()
        loss = trainer.step(clean, packed, generator)
        stopped = trainer.meet(stop=tick - began >= config.minutes * 60)
        trainer.seconds += time.monotonic() - tick
        log.add(loss)
        if process_rank() == 0 and (stopped or time.monotonic() - saved > config.checkpoint_minutes * 60):
            trainer.save(checkpoint)
            saved = time.monotonic()


class _Log:
    """The training's log: a line of JSON and a readable one, every `report_seconds`."""

    def __init__(self, trainer: Trainer, path: Path, say: Callable[[str], None] | None) -> None:
        self.trainer, self.path, self.say = trainer, path, say
        self.losses: list[float] = []
        self.last = (time.monotonic(), trainer.samples)
        self._write({"session": asdict(trainer.config), "samples": trainer.samples})

    def add(self, loss: float) -> None:
        self.losses.append(loss)
        (then, samples), now, trainer = self.last, time.monotonic(), self.trainer
        if self.say is None or now - then < trainer.config.report_seconds:
            return
        mean = sum(self.losses) / len(self.losses)
        speed = (trainer.samples - samples) / (now - then)
        self._write(trainer.record() | {"loss": round(mean, 5), "rate": trainer.rate()})
        self.say(f"{trainer.samples:>9,} samples  loss {mean:.4f}  {speed:.0f} samples/s")
        self.losses, self.last = [], (now, trainer.samples)

    def _write(self, record: Mapping[str, object]) -> None:
        if self.say is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")
