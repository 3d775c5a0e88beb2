"""Kernels on several threads: torch's own team, the one that stands in for it, and teams that fail."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import torch

from aaren.ops import fused, prefix_attention, threads

SHAPES = [(1, 1, 700, 5), (3, 2, 90, 5)]  # tokens are shared, and rows


def results(shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Outputs, state and gradients."""
    torch.manual_seed(0)
    scores, values = torch.randn(shape[:3], requires_grad=True), torch.randn(shape, requires_grad=True)
    outputs, state = prefix_attention(scores, values, backend="cpu")
    gradients = torch.autograd.grad((outputs * torch.randn(shape)).sum() + state.w.sum(), [scores, values])
    return [outputs.detach(), *(tensor.detach() for tensor in state), *gradients]


def two_threads(monkeypatch: pytest.MonkeyPatch, team: Callable[[int], int] | None = None) -> None:
    monkeypatch.setattr(fused, "SMALL", 1)
    monkeypatch.setattr(fused, "threads_for", lambda values: 2)
    if team is not None:
        monkeypatch.setattr(threads, "team", team)


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads of this process in /proc")
def test_the_team_is_torchs_own(monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(2)
    torch.randn(1 << 21).exp().sum()  # from here on torch has its team
    before = len(os.listdir("/proc/self/task"))
    two_threads(monkeypatch)
    results(SHAPES[0])
    assert len(os.listdir("/proc/self/task")) == before


@pytest.mark.parametrize("shape", SHAPES)
def test_where_torchs_team_is_not_to_be_had_pythons_serves(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]):
    expected = results(shape)
    monkeypatch.setattr(threads, "_torch_address", lambda: None)
    two_threads(monkeypatch)
    same(results(shape), expected)
    assert threads._pool is not None


def test_where_no_thread_can_be_started_one_does_all(monkeypatch: pytest.MonkeyPatch):
    expected = results(SHAPES[0])
    ended = ThreadPoolExecutor(1)
    ended.shutdown()
    monkeypatch.setattr(threads, "_torch_address", lambda: None)
    monkeypatch.setattr(threads, "_workers", lambda count: ended)
    two_threads(monkeypatch)
    same(results(SHAPES[0]), expected)


def test_an_interrupt_waits_for_what_the_others_do(monkeypatch: pytest.MonkeyPatch):
    def interrupted(futures: list) -> None:
        monkeypatch.setattr(threads, "wait", wait)
        told.append(len(futures))
        raise KeyboardInterrupt

    told: list[int] = []
    expected = results(SHAPES[0])
    monkeypatch.setattr(threads, "_torch_address", lambda: None)
    monkeypatch.setattr(threads, "wait", interrupted)
    pool = ThreadPoolExecutor(1)
    slow = pool.submit(time.sleep, 0.2)  # what is behind it in the queue is not done at once
    monkeypatch.setattr(threads, "_workers", lambda count: pool)
    two_threads(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        results(SHAPES[0])
    assert told == [1]
    assert slow.done()
    pool.shutdown()
    monkeypatch.undo()
    same(results(SHAPES[0]), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_team_smaller_than_asked_does_all_of_the_work(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]):
    @threads._TEAM
    def alone(body: int, data: int, count: int, _flags: int) -> None:
        assert count == 2
        threads._BODY(body)(data)

    expected = results(shape)
    address = ctypes.cast(alone, ctypes.c_void_p).value or 0
    two_threads(monkeypatch, lambda count: address)
    same(results(shape), expected)


def test_work_that_was_not_done_is_told(monkeypatch: pytest.MonkeyPatch):
    @threads._TEAM
    def idle(body: int, data: int, count: int, _flags: int) -> None:
        pass

    address = ctypes.cast(idle, ctypes.c_void_p).value or 0
    two_threads(monkeypatch, lambda count: address)
    with pytest.raises(MemoryError, match="found no memory for its sums"):
        results(SHAPES[0])


def test_one_thread_needs_no_team():
    assert threads.team(1) == 0
    assert threads.team(2) != 0


def forked(shape: tuple[int, ...], count: int) -> list[list[float]]:
    torch.set_num_threads(1)  # torch's own operators would wait in a forked child for threads that are not there
    fused.SMALL, fused.threads_for = 1, lambda values: count
    return [tensor.flatten().tolist() for tensor in results(shape)]


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs a fork that is safe")
def test_a_forked_child_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(2)
    two_threads(monkeypatch)
    expected = results(SHAPES[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's warning that fork and threads mix badly
        with multiprocessing.get_context("fork").Pool(1) as pool:
            ours = pool.apply_async(forked, (SHAPES[0], 2)).get(60)
    same([torch.tensor(numbers) for numbers in ours], [tensor.flatten().to(torch.float32) for tensor in expected])
