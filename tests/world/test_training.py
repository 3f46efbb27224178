"""Training the bundled models: steps, checkpoints, sessions and processes, on tiny networks."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dreamsplat.errors import FileProblem
from dreamsplat.world.bundle import read_image_model, read_volume_model, training_record
from dreamsplat.world.data import shapes
from dreamsplat.world.data.pictures import draw_pictures
from dreamsplat.world.language import vocabulary
from dreamsplat.world.nets.picture_denoiser import ImageDenoiser, ImageDenoiserSizes
from dreamsplat.world.nets.shape_denoiser import ShapeDenoiserSizes
from dreamsplat.world.training import gallery, processes, session
from dreamsplat.world.training.session import ImageTraining, Session, VolumeTraining, train_image, train_volume
from dreamsplat.world.training.trainer import Batches, Trainer, TrainerSettings, train

TINY = ImageDenoiserSizes(resolution=32, channels=(64, 64), blocks=1, embedding=32, layout=4)
TWO_STEPS = TrainerSettings(minutes=0.0, meet_steps=2, warmup_samples=1)
"""A session looks at the time when processes meet, so this one ends after two steps."""


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _trainer(settings: TrainerSettings = TWO_STEPS, sizes: ImageDenoiserSizes = TINY) -> Trainer:
    model = ImageDenoiser(sizes)
    return Trainer(model, model.noise, settings, torch.device("cpu"))


def _batches(seed: int = 0) -> Batches:
    pool = draw_pictures(1, 2, 32, _generator(seed), categories=("mug",))
    generator = _generator(seed)
    while True:
        yield pool.batch(8, generator)


def test_training_lowers_the_loss() -> None:
    trainer, batches, generator = _trainer(), _batches(), _generator()
    losses = [trainer.step(*next(batches), generator) for _ in range(40)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert trainer.samples == 320


def test_training_resumes_from_its_checkpoint_exactly(tmp_path: Path) -> None:
    first, second = _trainer(), _trainer()
    batches, generator = _batches(), _generator()
    for _ in range(3):
        first.step(*next(batches), generator)
    first.save(tmp_path / "checkpoint.safetensors")
    second.load(tmp_path / "checkpoint.safetensors")
    batch = next(batches)
    losses = [t.step(*batch, _generator(5)) for t in (first, second)]
    assert losses[0] == losses[1] and first.samples == second.samples
    assert all(torch.equal(first.average[k], second.average[k]) for k in first.average)


def test_a_session_ends_when_its_time_is_up_and_the_next_one_continues(tmp_path: Path) -> None:
    for number in (1, 2):
        trainer = _trainer()
        train(trainer, _batches(), tmp_path, lambda _: None, seed=0)
        lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        assert len([line for line in lines if "session" in line]) == number
        assert trainer.samples == 16 * number
    assert lines[-1]["samples"] == 16


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(FileProblem, match=r"checkpoint\.safetensors: not a training checkpoint"):
        _trainer().load(path)


def test_a_checkpoint_of_other_sizes_or_other_words_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    _trainer().save(path)
    with pytest.raises(FileProblem, match="a checkpoint of another network. Use its sizes"):
        _trainer(sizes=replace(TINY, embedding=64)).load(path)
    monkeypatch.setitem(vocabulary.VOCABULARY, "colours", ("teal",))
    with pytest.raises(FileProblem, match="number 1 of its colours is 'red', expected 'teal'"):
        _trainer().load(path)


@pytest.mark.parametrize(("wanted", "hardware"), [(True, True), (True, False), (False, True)])
def test_training_multiplies_in_bfloat16_only_where_the_processor_does(
    wanted: bool, hardware: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: hardware)
    trainer = _trainer(replace(TWO_STEPS, bf16=wanted))
    seen: list[torch.dtype] = []
    trainer.model.layout.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    trainer.step(*next(_batches()), _generator())
    assert seen == [torch.bfloat16 if wanted and hardware else torch.float32]


@pytest.fixture
def one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets of samples of a single caption."""
    monkeypatch.setattr(gallery, "gallery_captions", lambda: ["a red mug"])


@pytest.mark.usefixtures("one_row")
def test_the_2d_model_trains_in_sessions_that_leave_weights_and_a_sheet(tmp_path: Path) -> None:
    settings = ImageTraining(Session(tmp_path, training=TWO_STEPS), TINY, batch=2, instances=1, views=1)
    for number in (1, 2):
        path = train_image(settings)
        assert training_record(path)["samples"] == 4 * number
    model = read_image_model(path)
    assert model.config == TINY
    average = load_file(tmp_path / "image" / "checkpoint.safetensors")["average.exit.bias"]
    torch.testing.assert_close(model.exit.bias, average, rtol=1e-3, atol=1e-3)
    with Image.open(tmp_path / "image-samples.png") as sheet:
        assert sheet.width > 6 * TINY.resolution and sheet.height > TINY.resolution


@pytest.mark.usefixtures("one_row")
def test_the_3d_model_trains_in_sessions_that_keep_the_code_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "SHAPE_LATENT", 8)
    monkeypatch.setattr(shapes, "COLOUR_LATENT", 8)
    two = functools.partial(shapes.draw_shapes, categories=("mug", "duck"))
    monkeypatch.setattr(session, "draw_shapes", two)
    sizes = ShapeDenoiserSizes(latent=16, width=32, blocks=1)
    settings = VolumeTraining(Session(tmp_path, training=TWO_STEPS), sizes, batch=4, instances=10)
    path = train_volume(settings)
    _, code = read_volume_model(path)
    train_volume(replace(settings, instances=1))
    model, again = read_volume_model(path)
    assert training_record(path)["samples"] == 16 and model.config == sizes
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(code).items())
    assert (tmp_path / "volume-samples.png").is_file()
    # What starts from these weights goes on with their code, in every later session too.
    begun = replace(settings, session=replace(settings.session, folder=tmp_path / "begun", start=path), instances=1)
    for later in (begun, replace(begun, session=replace(begun.session, start=None))):
        _, kept = read_volume_model(train_volume(later))
        assert all(torch.equal(value, getattr(kept, name)) for name, value in vars(code).items())
    assert training_record(tmp_path / "begun" / "volume.safetensors")["samples"] == 32


def _meet(folder: Path) -> None:
    """Start two processes from different weights, and average them; process 1 asks to stop."""
    rank = processes.process_rank()
    model = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(model.weight, rank)
    processes.share_weights(model)
    shared = model.weight.tolist()
    torch.nn.init.constant_(model.weight, 2 * rank + 1)
    stop = processes.average_weights(model, stop=rank == 1)
    (folder / str(rank)).write_text(json.dumps([processes.process_count(), shared, model.weight.tolist(), stop]))


def test_processes_start_from_the_weights_of_the_first_and_meet_at_the_mean(tmp_path: Path) -> None:
    processes.run_in_processes(2, _meet, tmp_path)
    assert [json.loads((tmp_path / str(rank)).read_text()) for rank in (0, 1)] == [[2, [[0, 0]], [[2, 2]], True]] * 2


def _meet_without_end(_: None) -> None:
    """Average weights for ever."""
    model = torch.nn.Linear(1000, 1000)
    for step in itertools.count():
        processes.average_weights(model, stop=False)
        if step == 3:
            os.write(1, b"ready\n")  # At once: two processes write to one pipe.


def test_processes_end_with_the_one_that_started_them() -> None:
    # In the background a shell has programs ignore SIGINT, with which torch would end orphans.
    program = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    program += f"sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_training as t; "
    program += "t.processes.run_in_processes(2, t._meet_without_end, None)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            assert [parent.stdout.readline() for _ in range(2)] == [b"ready\n"] * 2
            parent.terminate()
            # The pipe is open for as long as any process lives.
            assert parent.communicate(timeout=30) == (b"", None)
        finally:
            parent.kill()
