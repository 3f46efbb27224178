"""The compiled rasteriser against the specification in float64, and in what only it can get wrong: threads, memory."""

from __future__ import annotations

import functools
import os
import signal
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rendering import INPUTS, OUTPUTS, RELATIVE_ERROR, Case, orbit, outputs_and_gradients, relative_error
from torch import Tensor

from dreamsplat.render import cpu, reference
from dreamsplat.render.selftest import scene
from dreamsplat.types import Cameras, Gaussians, Rendering

BUILDS = cpu.builds()


def needles() -> Case:
    gaussians = scene(100)
    return replace(gaussians, scales=torch.tensor([0.8, 0.001, 0.001]).expand(100, 3).contiguous()), orbit()


def scaled_quaternions(factor: float) -> Case:
    gaussians = scene(100)
    return replace(gaussians, quats=gaussians.quats * factor), orbit()


def bounds_of_opacity() -> Case:
    gaussians = scene(99)
    return replace(gaussians, opacities=torch.tensor([0.0, 1.0, 0.5]).repeat(33)), orbit()


def hundred_thousand() -> Case:
    return at_distinct_depths(scene(100_000, 0, scale=(0.005, 0.02), opacity=(0.005, 0.02)), orbit(1, size=(3, 2)))


def sh_gradients_written_past_the_caches() -> Case:
    """Over a megabyte of them; the last batch is not full."""
    return at_distinct_depths(scene(6_001, 3, scale=(0.005, 0.02), opacity=(0.05, 0.3)), orbit(1, size=(17, 12)))


def at_distinct_depths(gaussians: Gaussians, cameras: Cameras) -> Case:
    """Depths exact in float32, seen from the front: tied ones would blend in another order than in float64."""
    shuffled = torch.randperm(len(gaussians), generator=torch.Generator().manual_seed(0))
    gaussians.means[:, 1] = (shuffled - len(gaussians) // 2) * 2.0**-18
    pose = torch.tensor([[[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 3], [0, 0, 0, 1]]])
    return gaussians, replace(cameras, world_to_camera=pose)


CASES: dict[str, Callable[[], Case]] = {
    "SH degree 0": lambda: (scene(200, 0), orbit()),
    "SH degree 1": lambda: (scene(200, 1), orbit()),
    "SH degree 2": lambda: (scene(200, 2), orbit()),
    "SH degree 3": lambda: (scene(200, 3), orbit()),
    "one Gaussian": lambda: (scene(1), orbit(1, size=(9, 9))),
    "no Gaussian": lambda: (scene(0), orbit()),
    "one pixel": lambda: (scene(40), orbit(3, size=(1, 1))),
    "whole tiles": lambda: (scene(100), orbit(1, size=(64, 32))),
    "a pixel over whole tiles": lambda: (scene(100, scale=(0.01, 0.05)), orbit(1, size=(33, 65))),
    "batch of five": lambda: (scene(100), orbit(5, size=(20, 31))),
    "around the camera": lambda: (scene(150, spread=2), orbit(distance=0.5)),
    "across the near plane": lambda: (scene(300, scale=(0.005, 0.2)), orbit(distance=0.3, fov_deg=80)),
    "beyond the frustum": lambda: (scene(150, spread=6, scale=(0.3, 1)), orbit(fov_deg=30)),
    "larger than the image": lambda: (scene(60, scale=(1, 20), opacity=(0.01, 0.3)), orbit()),
    "a million px large": lambda: (scene(60, scale=(1e5, 1e6), opacity=(0.01, 0.3)), orbit()),
    "under a pixel": lambda: (scene(300, scale=(1e-5, 1e-3)), orbit()),
    "needles": needles,
    "short quaternions": lambda: scaled_quaternions(1e-9),
    "long quaternions": lambda: scaled_quaternions(1e30),
    "opacities 0 and 1": bounds_of_opacity,
    "early end": lambda: (scene(400, opacity=(0.8, 1), scale=(0.1, 0.3)), orbit()),
    "several chunks, thin": lambda: (scene(1500, 0, opacity=(0.005, 0.05), scale=(0.1, 0.3)), orbit(1, size=(17, 15))),
    "several chunks, opaque": lambda: (scene(1500, 0, opacity=(0.5, 1), scale=(0.05, 0.1)), orbit(1, size=(17, 15))),
    "100 000 Gaussians": hundred_thousand,
    "SH degree 3, past the caches": sh_gradients_written_past_the_caches,
}


def run(
    case: Case,
    render: Callable[..., Rendering] = cpu.render,
    dtype: torch.dtype = torch.float32,
    use: tuple[str, ...] = OUTPUTS,
) -> dict[str, Tensor]:
    """See `outputs_and_gradients`."""
    return outputs_and_gradients(render, case[0].to(dtype), case[1].to(dtype), use)


@functools.cache
def expected(name: str) -> dict[str, Tensor]:
    return run(CASES[name](), reference.render, torch.float64)


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.fixture(params=BUILDS, ids=lambda path: path.stem)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each build that runs here in turn."""
    monkeypatch.setattr(cpu, "_library", lambda: cpu.load(request.param))
    return request.param


# Agreement with the specification


def test_a_build_runs_here() -> None:
    assert BUILDS, "the kernel is not compiled, so the tests of this file that need it were left out"
    assert cpu.available()[0] and BUILDS[-1].name in cpu.available()[1]


@pytest.mark.parametrize("name", CASES)
def test_every_output_and_gradient_is_that_of_the_specification(name: str, build: Path) -> None:
    found = run(CASES[name]())
    errors = {key: relative_error(found[key], right) for key, right in expected(name).items()}
    assert {key: error for key, error in errors.items() if not error <= RELATIVE_ERROR} == {}


def test_the_cases_hold_what_their_names_say() -> None:
    def slopes_and_depths(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        gaussians, cameras = CASES[name]()
        pose = cameras.world_to_camera
        positions = gaussians.means @ pose[:, :3, :3].mT + pose[:, None, :3, 3]  # [C, N, 3]
        widest = 1.3 * 0.5 * cameras.width / cameras.intrinsics[:, 0, 0]
        visible = expected(name)["radii_px"] > 0
        return positions[..., 0] / positions[..., 2], positions[..., 2], widest[:, None], visible

    slopes, _, widest, visible = slopes_and_depths("beyond the frustum")
    assert ((slopes.abs() > widest) & visible).sum() > 10
    _, depths, _, visible = slopes_and_depths("around the camera")
    assert (depths < 0).any() and visible.any() and not visible[depths <= reference.NEAR].any()
    _, depths, _, visible = slopes_and_depths("across the near plane")
    assert ((depths > reference.NEAR) & (depths < 0.02) & visible).any()  # Nearer than most are large.
    assert (expected("early end")["alpha"] > 0.999).float().mean() > 0.2
    assert (expected("SH degree 3")["sh"].abs().sum(dim=1) == 0).any()  # A colour cut off at 0 has no gradient.
    radii = expected("larger than the image")["radii_px"]
    assert radii.median() > 37


def test_gaussians_too_large_for_float32_are_culled_without_harm(build: Path) -> None:
    gaussians = scene(3, opacity=(0.5, 0.6))
    gaussians.scales[0], gaussians.means[1] = 1e30, 1e30
    found = run((gaussians, orbit()))
    assert all(value.isfinite().all() for value in found.values())
    assert (found["radii_px"][:, 0] == 0).all() and (found["radii_px"][:, 2] > 0).any()


def test_round_gaussians_have_no_gradient_of_rotation(build: Path) -> None:
    gaussians = replace(scene(50), scales=torch.full((50, 3), 0.1))
    found = run((gaussians, orbit()))
    # Exactly 0 in real numbers, so there is no relative error. Scales are the yardstick: the points that one radian
    # moves by 0.1 at most are those that a change of scale by 0.1 moves.
    assert found["quats"].norm() <= RELATIVE_ERROR * 0.1 * found["scales"].norm()


# Threads and processes


@pytest.mark.parametrize("cameras", [1, 3])
def test_thread_count_changes_no_bit(cameras: int, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = scene(3000, scale=(0.01, 0.1)), orbit(cameras, size=(150, 90))  # Several tasks in each stage.
    results = []
    for threads in (1, 2, 4):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        results.append(run(case))
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


def test_concurrent_callers_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    cases = [(scene(count, scale=(0.01, 0.1)), orbit(2, size=(70, 40))) for count in (100, 600, 1100, 1600)]
    alone = [run(case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, cases * 5))
    for i, result in enumerate(together):
        assert_same(result, alone[i % 4])


def test_graph_can_be_walked_twice_and_by_several_threads() -> None:
    gaussians, cameras = scene(300), orbit(size=(70, 40))
    gaussians.means.requires_grad_()
    rgb = cpu.render(gaussians, cameras, torch.zeros(2, 3), None).rgb

    def gradient(factor: float) -> Tensor:
        return torch.autograd.grad(rgb, gaussians.means, torch.full_like(rgb, factor), retain_graph=True)[0]

    first = gradient(1.0)
    assert first.any() and torch.equal(gradient(1.0), first)
    with ThreadPoolExecutor(4) as pool:
        for power, found in enumerate(pool.map(gradient, [2.0**power for power in range(12)])):
            assert torch.equal(found, first * 2**power)  # Exact: a power of two only moves exponents.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_works_in_a_forked_child_of_a_process_that_has_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    case = scene(600), orbit(size=(70, 40))
    parents = run(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Of forking with threads about, which is the point here.
        child = os.fork()
    if child == 0:  # No assertion may leave this branch: the child would go on with the tests of its parent.
        signal.alarm(20)  # ends it if it hangs
        same = False
        try:
            same = all(torch.equal(value, parents[name]) for name, value in run(case).items())
        finally:
            os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_the_number_of_threads_is_that_of_the_variable_that_torch_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    every_core = cpu.thread_count()
    assert every_core >= 1
    for value in ("0", "-1", "two", "4,2", ""):  # what is no number of threads limits nothing
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert cpu.thread_count() == every_core
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert cpu.thread_count() == 7


# Memory and autograd


def test_frames_are_reused_without_a_trace_of_the_last_call() -> None:
    # All pixels of the first end early, so its last Gaussians are never looked at; their gradient is 0, not a leftover.
    early = scene(1500, 0, opacity=(0.8, 1), scale=(0.5, 1)), orbit(1, size=(20, 15))
    first = run(early)
    assert (first["alpha"] > 0.98).all()
    run((scene(2000), orbit(3, size=(100, 70))))
    assert_same(first, run(early))


def test_forward_passes_may_overlap() -> None:
    cameras, background = orbit(), torch.zeros(2, 3)
    scenes = [scene(50), scene(90)]
    for gaussians in scenes:
        gaussians.means.requires_grad_()
    alone = [torch.autograd.grad(cpu.render(g, cameras, background, None).rgb.sum(), g.means)[0] for g in scenes]
    sums = [cpu.render(g, cameras, background, None).rgb.sum() for g in scenes]
    for gaussians, total, right in zip(scenes, sums, alone, strict=True):
        assert torch.equal(torch.autograd.grad(total, gaussians.means)[0], right)


def test_memory_layout_changes_no_bit() -> None:
    gaussians, cameras = scene(50, 2), orbit()

    def strided(value: Tensor) -> Tensor:
        """The same values, every second one of a buffer, last axis first."""
        buffer = torch.full((*value.shape[::-1], 2), torch.nan)
        buffer[..., 0] = value.permute(*reversed(range(value.ndim)))
        return buffer[..., 0].permute(*reversed(range(value.ndim)))

    scattered = Gaussians(*(strided(value) for value in vars(gaussians).values()))
    views = replace(cameras, world_to_camera=strided(cameras.world_to_camera), intrinsics=strided(cameras.intrinsics))
    assert not scattered.means.is_contiguous() and not views.intrinsics.is_contiguous()
    assert_same(run((scattered, views)), run((gaussians, cameras)))
    leaf = scattered.means.requires_grad_()
    one_colour = torch.tensor([0.1, 0.2, 0.3]).expand(2, 3)
    cpu.render(scattered, views, one_colour, None).rgb.sum().backward()  # A sum's gradient is expanded: strides of 0.
    assert leaf.grad is not None and leaf.grad.any()


def test_float64_goes_in_and_out_and_changes_no_bit() -> None:
    case = scene(50), orbit()
    single, double = run(case), run(case, dtype=torch.float64)
    assert {value.dtype for value in double.values()} == {torch.float64}
    assert_same({name: value.double() for name, value in single.items()}, double)


def test_default_dtype_of_torch_does_not_matter() -> None:
    case = *(scene(50), orbit()), torch.zeros(2, 3), None
    before = cpu.render(*case)
    torch.set_default_dtype(torch.float64)
    try:
        after = cpu.render(*case)
    finally:
        torch.set_default_dtype(torch.float32)
    assert after.rgb.dtype == torch.float32
    assert_same(vars(before), vars(after))


def test_inputs_without_gradient_give_outputs_without_graph() -> None:
    gaussians, cameras, background = scene(50), orbit(), torch.zeros(2, 3)
    plain = cpu.render(gaussians, cameras, background, None)
    gaussians.means.requires_grad_()
    with torch.no_grad():
        switched_off = cpu.render(gaussians, cameras, background, None)
    tracked = cpu.render(gaussians, cameras, background, None)
    assert not any(value.requires_grad for value in (*vars(plain).values(), *vars(switched_off).values()))
    assert tracked.rgb.requires_grad and not tracked.radii_px.requires_grad
    assert torch.equal(plain.rgb, tracked.rgb) and torch.equal(plain.rgb, switched_off.rgb)


@pytest.mark.parametrize("name", OUTPUTS)
def test_one_output_alone_gives_its_own_gradients(name: str) -> None:
    case = scene(50), orbit()
    found = run(case, use=(name,))
    right = run(case, reference.render, torch.float64, use=(name,))
    assert max(relative_error(found[key], right[key]) for key in INPUTS) <= RELATIVE_ERROR


def test_one_input_alone_gets_the_gradient_it_gets_among_all() -> None:
    gaussians, cameras, background = scene(50), orbit(), torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    for tensor in (*vars(gaussians).values(), background):
        everything = [value.requires_grad_() for value in (*vars(gaussians).values(), background)]
        among_all = torch.autograd.grad(cpu.render(gaussians, cameras, background, None).rgb.sum(), tensor)[0]
        for value in everything:
            value.requires_grad_(value is tensor)
        alone = torch.autograd.grad(cpu.render(gaussians, cameras, background, None).rgb.sum(), tensor)[0]
        assert torch.equal(alone, among_all)


def test_inputs_changed_in_place_before_the_backward_pass_are_noticed() -> None:
    gaussians = scene(50)
    gaussians.sh.requires_grad_()
    total = cpu.render(gaussians, orbit(), torch.zeros(2, 3), None).rgb.sum()
    gaussians.means.add_(1)
    with pytest.raises(RuntimeError, match="inplace"):
        total.backward()
