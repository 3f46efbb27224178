"""The one way into rendering: what it refuses, before any kernel sees it, and which backend it takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamsplat.errors import DeviceUnavailable, InvalidInput
from dreamsplat.method.cameras import orbit
from dreamsplat.render import BACKENDS, backend_choice, cpu, gsplat, gswarp, render, selftest
from dreamsplat.types import Cameras, Gaussians, Rendering

GAUSSIANS = ("means", "scales", "quats", "opacities", "sh")
CAMERAS = ("world_to_camera", "intrinsics")
FIELDS = (*GAUSSIANS, *CAMERAS, "background", "screen_offsets")
ON_CPU = [name for name in BACKENDS if BACKENDS[name].runs_on(torch.device("cpu"))]
"""Backends that take tensors on the CPU."""


@pytest.fixture
def inputs(random_gaussians: Callable[..., Gaussians]) -> dict[str, Any]:
    """Tensors that can be rendered, by name: 5 Gaussians, 2 cameras of 8 x 8 px."""
    cameras = orbit(2, size=8).cameras
    return {
        **vars(random_gaussians(5, sh_degree=1)),
        "world_to_camera": cameras.world_to_camera, "intrinsics": cameras.intrinsics,
        "background": torch.rand(2, 3), "screen_offsets": torch.zeros(2, 5, 2),
    }  # fmt: skip


def draw(inputs: dict[str, Any], backend: str = "auto") -> Rendering:
    gaussians = Gaussians(*(inputs[name] for name in GAUSSIANS))
    cameras = Cameras(*(inputs[name] for name in CAMERAS), width=8, height=8)
    return render(
        gaussians, cameras, background=inputs["background"], screen_offsets=inputs["screen_offsets"], backend=backend
    )


@pytest.fixture(params=ON_CPU)
def refusal(inputs: dict[str, Any], request: pytest.FixtureRequest) -> Callable[..., str]:
    """`refusal(means=...)`: the message with which inputs, changed so, are refused, by each backend."""

    def message(**changed: Any) -> str:
        with pytest.raises(InvalidInput) as caught:
            draw({**inputs, **changed}, backend=request.param)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message


def with_value(tensor: Tensor, value: float) -> Tensor:
    changed = tensor.clone()
    changed.view(-1)[-1] = value
    return changed


# What is refused


def test_inputs_of_the_refusals_are_otherwise_valid(inputs: dict[str, Any]) -> None:
    assert draw(inputs).rgb.shape == (2, 8, 8, 3)


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("name", FIELDS)
def test_values_that_are_not_finite_are_refused(
    name: str, value: float, inputs: dict[str, Any], refusal: Callable[..., str]
) -> None:
    message = refusal(**{name: with_value(inputs[name], value)})
    last = len(inputs[name]) - 1
    assert message.startswith(f"{name}: row {last} ") and "not finite" in message


@pytest.mark.parametrize("name", FIELDS)
def test_wrong_shapes_are_refused(name: str, inputs: dict[str, Any], refusal: Callable[..., str]) -> None:
    longer = torch.cat([inputs[name], inputs[name][:1]])
    deeper = inputs[name][None]
    culprit = {"means": "scales"}.get(name, name)  # The first field sets N, so the second is found at fault.
    assert refusal(**{name: longer}).startswith("intrinsics" if name == "world_to_camera" else culprit)
    assert refusal(**{name: deeper}).startswith(name)


@pytest.mark.parametrize("name", FIELDS)
def test_mixed_dtypes_are_refused(name: str, inputs: dict[str, Any], refusal: Callable[..., str]) -> None:
    message = refusal(**{name: inputs[name].double()})
    assert "float64" in message and "float32" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_other_dtypes_than_float32_and_float64_are_refused(
    dtype: torch.dtype, inputs: dict[str, Any], refusal: Callable[..., str]
) -> None:
    message = refusal(**{name: tensor.to(dtype) for name, tensor in inputs.items()})
    assert message.startswith("means: dtype") and "expected torch.float32 or torch.float64" in message


def test_tensors_on_other_devices_are_refused(inputs: dict[str, Any], refusal: Callable[..., str]) -> None:
    assert refusal(scales=inputs["scales"].to("meta")).startswith("scales: torch.float32 on meta, expected")


@pytest.mark.parametrize(
    ("name", "value"),
    [("opacities", -0.01), ("opacities", 1.01), ("scales", 0.0), ("scales", -0.1)],
)
def test_values_out_of_range_are_refused(
    name: str, value: float, inputs: dict[str, Any], refusal: Callable[..., str]
) -> None:
    message = refusal(**{name: with_value(inputs[name], value)})
    assert message.startswith(f"{name}: ") and "expected" in message and f"{value:g}" in message


def test_quaternions_of_length_zero_are_refused(inputs: dict[str, Any], refusal: Callable[..., str]) -> None:
    inputs["quats"][3] = 0
    assert "length 0" in refusal()


def test_values_beyond_float32_are_refused_where_it_computes_in_float32(inputs: dict[str, Any]) -> None:
    doubles = {name: tensor.double() for name, tensor in inputs.items()}
    doubles["means"] = with_value(doubles["means"], 1e200)
    with pytest.raises(InvalidInput, match="exceeds float32"):
        draw(doubles, "cpu")
    assert draw(doubles, "reference").rgb.isfinite().all()


@pytest.mark.parametrize("focal", [0.0, -10.0])
def test_focal_lengths_of_zero_or_less_are_refused(
    focal: float, inputs: dict[str, Any], refusal: Callable[..., str]
) -> None:
    inputs["intrinsics"][1, 1, 1] = focal
    assert "focal length" in refusal()


def test_no_camera_is_refused(inputs: dict[str, Any], refusal: Callable[..., str]) -> None:
    empty = {name: inputs[name][:0] for name in (*CAMERAS, "background", "screen_offsets")}
    assert refusal(**empty) == "no cameras, expected at least one."


@pytest.mark.parametrize("background", ["white", (0.1, 0.2), 0.5, None, (nan, 0, 0), ("a", "b", "c")])
def test_backgrounds_that_are_no_colour_are_refused(background: Any, refusal: Callable[..., str]) -> None:
    assert refusal(background=background).startswith("background: ")


def test_unknown_backend_is_refused_with_the_known_ones(inputs: dict[str, Any]) -> None:
    known = r"^backend: 'nvidia', expected 'auto' or one of 'cpu', 'gsplat', 'gswarp', 'tiled', 'reference'\.$"
    with pytest.raises(InvalidInput, match=known):
        draw(inputs, backend="nvidia")


# What is taken


@pytest.mark.parametrize("backend", ON_CPU)
def test_limits_of_the_ranges_can_be_rendered(backend: str, inputs: dict[str, Any]) -> None:
    inputs["opacities"][0], inputs["opacities"][1] = 0, 1
    inputs["quats"][0] *= 1e-3
    inputs["scales"][0] = 1e-12
    assert draw(inputs, backend).rgb.isfinite().all()
    empty = {name: inputs[name][:0] for name in GAUSSIANS} | {"screen_offsets": inputs["screen_offsets"][:, :0]}
    behind = inputs["background"][:, None, None, :].expand(2, 8, 8, 3)
    assert torch.equal(draw({**inputs, **empty}, backend).rgb, behind)


@pytest.mark.parametrize("backend", ON_CPU)
def test_one_background_colour_serves_all_cameras(backend: str, inputs: dict[str, Any]) -> None:
    colour = torch.tensor([0.2, 0.5, 0.8], requires_grad=True)
    shared = draw({**inputs, "background": colour}, backend)
    assert torch.equal(shared.rgb, draw({**inputs, "background": [0.2, 0.5, 0.8]}, backend).rgb)
    assert torch.equal(shared.rgb, draw({**inputs, "background": colour.detach().expand(2, 3)}, backend).rgb)
    (gradient,) = torch.autograd.grad(shared.rgb.sum(), colour)
    torch.testing.assert_close(gradient, (1 - shared.alpha).sum().expand(3))


# Which backend


@pytest.fixture
def fresh_choice() -> Iterator[None]:
    """Lets the backend be chosen anew, in this test and after it."""
    backend_choice.cache_clear()
    yield
    backend_choice.cache_clear()


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str = "gsplat", **changes: Any) -> None:
    """A backend with some fields changed, or a new one."""
    monkeypatch.setitem(BACKENDS.loaded, name, replace(BACKENDS["gsplat"], **changes))  # type: ignore[attr-defined]


def test_choice_has_a_name_and_a_reason() -> None:
    name, reason = backend_choice(torch.device("cpu"))
    assert name == "cpu" and "_cpu_" in reason and "threads" in reason
    name, reason = backend_choice(torch.device("meta"))
    assert name == "tiled" and reason == "slow: no faster backend for meta"


def test_cuda_is_rendered_by_gsplat_if_it_runs(fresh_choice: None, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, available=lambda: (True, "gsplat 1.5.3, CUDA"))
    assert backend_choice(torch.device("cuda")) == ("gsplat", "gsplat 1.5.3, CUDA")
    assert backend_choice(torch.device("cpu"))[0] == "cpu"


def test_a_backend_that_another_package_adds_renders_a_device_on_which_no_built_in_one_runs(
    fresh_choice: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, available=lambda: (False, "gsplat is missing"))
    stand_in(monkeypatch, "triton", available=lambda: (True, "triton 3"), devices=("cuda", "xpu"))
    assert backend_choice(torch.device("cuda")) == ("triton", "triton 3")
    assert backend_choice(torch.device("xpu")) == ("triton", "triton 3")
    assert backend_choice(torch.device("cpu"))[0] == "cpu"
    stand_in(monkeypatch, "triton", available=lambda: (False, "no triton"))
    backend_choice.cache_clear()
    slow = "slow: gsplat is missing; torch finds no CUDA device; no triton"
    assert backend_choice(torch.device("cuda")) == ("tiled", slow)


def test_cuda_without_either_package_is_rendered_in_tiles_with_one_warning_that_tells_how_to_install_it(
    fresh_choice: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(name: str) -> str:
        raise selftest.PackageNotFoundError(name)

    for module in (gsplat, gswarp):
        module.available.cache_clear()
        monkeypatch.setattr(selftest, "version", missing)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with caplog.at_level(logging.INFO, logger="dreamsplat.render"):
        choices = {backend_choice(torch.device("cuda")) for _ in range(3)}
    for module in (gsplat, gswarp):
        module.available.cache_clear()
    ways = [f'{name} is not installed: pip install "dreamsplat[{name}]"' for name in ("gsplat", "gswarp")]
    assert choices == {("tiled", f"slow: {'; '.join(ways)}")}
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.WARNING and "\n" not in message
    assert "'tiled'" in message and "not installed" in message and 'pip install "dreamsplat[gsplat]"' in message


def test_auto_renders_with_the_choice(inputs: dict[str, Any]) -> None:
    name, _ = backend_choice(torch.device("cpu"))
    assert torch.equal(draw(inputs).rgb, draw(inputs, name).rgb)
    assert not torch.equal(draw(inputs).rgb, draw(inputs, "reference").rgb)  # They round differently.


def test_choice_is_logged_once(inputs: dict[str, Any], fresh_choice: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="dreamsplat.render"):
        draw(inputs)
        draw(inputs)
    (record,) = caplog.records
    assert record.levelno == logging.INFO and "'cpu'" in record.getMessage()


def test_missing_library_falls_back_to_tiles_with_one_warning(
    inputs: dict[str, Any],
    fresh_choice: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cpu._library.cache_clear()
    monkeypatch.setattr(cpu, "builds", lambda: [])
    with caplog.at_level(logging.INFO, logger="dreamsplat.render"):
        first, second = draw(inputs), draw(inputs)
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.WARNING and "\n" not in message
    assert "'tiled'" in message and "slow" in message and "not compiled" in message and "cmake" in message
    assert torch.equal(first.rgb, draw(inputs, "tiled").rgb) and torch.equal(first.rgb, second.rgb)
    with pytest.raises(DeviceUnavailable, match="^backend 'cpu' cannot run: the CPU rasteriser is not compiled"):
        draw(inputs, "cpu")


def test_library_that_does_not_load_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    broken = tmp_path / "_cpu_baseline.so"
    broken.write_bytes(b"not a library")
    cpu._library.cache_clear()
    monkeypatch.setattr(cpu, "builds", lambda: [broken])
    usable, reason = cpu.available()
    assert not usable and "_cpu_baseline.so" in reason
    cpu._library.cache_clear()


def test_cpu_backend_refuses_tensors_elsewhere(inputs: dict[str, Any]) -> None:
    gaussians = Gaussians(*(inputs[name].to("meta") for name in GAUSSIANS))
    with pytest.raises(InvalidInput, match="^backend 'cpu' renders tensors on cpu, received meta"):
        render(gaussians, orbit(2, size=8).cameras, backend="cpu")


def test_gsplat_backend_refuses_tensors_elsewhere(inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, available=lambda: (True, "a test"))
    with pytest.raises(InvalidInput, match="^backend 'gsplat' renders tensors on cuda, received cpu"):
        draw(inputs, "gsplat")


def test_gsplat_backend_that_cannot_run_is_told(inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, available=lambda: (False, "no device"))
    with pytest.raises(DeviceUnavailable, match="^backend 'gsplat' cannot run: no device"):
        draw(inputs, "gsplat")


def test_camera_parameters_get_no_gradient(inputs: dict[str, Any]) -> None:
    inputs["intrinsics"].requires_grad_()
    assert not draw(inputs, "cpu").rgb.requires_grad
    assert replace(orbit(2, size=8).cameras, intrinsics=inputs["intrinsics"]).intrinsics.grad is None
