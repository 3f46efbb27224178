"""Choosing a device and sharing a processor's cores."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from queue import Empty

import pytest
import torch

from dreamsplat.errors import DeviceUnavailable
from dreamsplat.method.cameras import make_views
from dreamsplat.method.devices import one_core_threads, resolve_device
from dreamsplat.priors2d import BundledImagePrior


@pytest.fixture
def two_torch_threads() -> Iterator[None]:
    """Whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none() -> None:
    with pytest.raises(DeviceUnavailable, match="Use cpu or auto"):
        resolve_device("cuda")
    assert resolve_device("auto") == torch.device("cpu")


def test_each_thread_computes_on_one_core_and_the_process_keeps_its_number(two_torch_threads: None) -> None:
    one_core_threads.cache_clear()
    inside = one_core_threads(3).map(lambda _: torch.get_num_threads(), range(30))
    assert set(inside) == {1} and torch.get_num_threads() == 2


@pytest.mark.parametrize("images", [1, 3, 8])
def test_denoising_in_parts_changes_nothing_but_rounding(images: int, two_torch_threads: None) -> None:
    prior = BundledImagePrior().load(torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    same = torch.ones(images)
    views = make_views(torch.arange(images) * 40.0, 15 * same, 3 * same, 40 * same, 64, 64)
    z = torch.randn(images, 4, 64, 64, generator=generator)
    sigma = 0.1 + 5 * torch.rand(images, generator=generator)
    condition = prior.embed(["a red mushroom"] * images, views)
    in_parts = prior.denoise(z, sigma, condition)
    torch.set_num_threads(1)
    # Libraries choose their sums by the size of a batch and the processor; on some, not a bit differs.
    rounding = 2e-2 if prior.bf16 else 1e-5
    torch.testing.assert_close(in_parts, prior.denoise(z, sigma, condition), rtol=0, atol=rounding)


def _answer(queue: multiprocessing.Queue) -> None:
    queue.put(list(one_core_threads(2).map(abs, [-1, -2])))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_threads_of_its_own(two_torch_threads: None) -> None:
    one_core_threads(2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_answer, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=20) == [1, 2]
    except Empty:
        pytest.fail("the child waits for threads that it does not have")
    finally:
        child.kill()
