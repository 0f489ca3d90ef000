"""Calls with torch's tensors that are like earlier ones: what was checked then is looked at again, but no more than
that."""

from __future__ import annotations

from typing import Any

import pytest

import tilus as tl


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@tl.jit
def add_one(x: tl.f32["N"] | tl.bf16["N"] | tl.f8e4m3fn["N"], y: tl.f32["N"] | tl.bf16["N"] | tl.f8e4m3fn["N"],
            B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.store(y, i * B, (tl.load(x, i * B, B).to(tl.f32) + 1.0).to(y.dtype))


def slow_calls(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one at each call that is bound and checked anew."""
    calls: list[int] = []
    slow = kernel._slow
    monkeypatch.setattr(kernel, "_slow", lambda *args: (calls.append(1), slow(*args))[1])
    return calls


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float8_e4m3fn"])
def test_calls_alike(torch: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = slow_calls(add_one, monkeypatch)
    dtype = getattr(torch, name)
    for turn in range(4):
        x = torch.full((100,), float(turn)).to(dtype)
        y = torch.zeros(100).to(dtype)
        version = y._version
        add_one(x, y)
        assert (y.to(torch.float32) == turn + 1).all()
        assert y._version == version + 1  # autograd knows
    assert len(calls) == 1
    monkeypatch.setattr(add_one, "_run", None)  # what is left goes by compiled code
    add_one(x, y)
    assert y._version == version + 2
    assert x._version == 0


def test_other_strides_and_offsets(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    base, y = torch.arange(1000.0), torch.zeros(100)
    views = [base[:100], base[4:104], base[1:101], base[:200:2], base[800:1000:2]]
    for x in views:
        add_one(x, y)
    calls = slow_calls(add_one, monkeypatch)
    for x in views:
        add_one(x, y)
        assert (y == x + 1).all()
    assert not calls


def test_what_is_refused_after_a_call_that_was_not(torch: Any) -> None:
    x, y = torch.ones(100), torch.zeros(100)
    for _ in range(2):
        add_one(x, y)
    for wrong, message in (
        (lambda: add_one(torch.ones(100, requires_grad=True), y), "requires a gradient"),
        (lambda: add_one(torch.ones(100, dtype=torch.complex64).conj().imag, y), "negates"),
        (lambda: add_one(torch.ones(100, device="meta"), y), "no memory"),
        (lambda: add_one(x, x), "overlaps"),
        (lambda: torch.func.vmap(lambda t: add_one(t, y))(torch.ones(2, 100)), "transform"),
        (lambda: add_one(torch.ones(100).to_sparse(), y), "layout"),
        (lambda: add_one(torch._efficientzerotensor(100), y), "not in memory"),
    ):
        with pytest.raises(tl.UserError, match=message):
            wrong()
    shrunk = torch.ones(100)
    shrunk.untyped_storage().resize_(16)
    with pytest.raises(tl.UserError, match="smaller"):
        add_one(shrunk, y)
    shrunk = torch.ones(200)[::2]
    shrunk.untyped_storage().resize_(400)
    with pytest.raises(tl.UserError, match="smaller"):
        add_one(shrunk, y)


def test_parameters_where_no_gradient_is_recorded(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, y = torch.nn.Parameter(torch.ones(100)), torch.zeros(100)
    with torch.no_grad():
        add_one(weight, y)
        calls = slow_calls(add_one, monkeypatch)
        add_one(weight, y)
        assert not calls
    with pytest.raises(tl.UserError, match="requires a gradient"):
        add_one(weight, y)
    with torch.inference_mode():
        out = torch.zeros(100)
        add_one(weight, out)
        assert (out == 2).all()


def test_tensors_and_arrays_by_turns(torch: Any) -> None:
    for _ in range(3):
        x, y = torch.ones(100), torch.zeros(100)
        add_one(x.numpy(), y)
        add_one(y, x.numpy())
        assert (x == 3).all()


@tl.fuse
def combined(x, y, factor: float = 2.0):
    return x * factor + y, tl.sum(x)


def test_fused_calls_alike(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    combined(torch.ones(40, 3), torch.ones(40, 3))
    plans: list[int] = []
    slow = combined._plan
    monkeypatch.setattr(combined, "_plan", lambda *args: (plans.append(1), slow(*args))[1])
    memory, seen = torch.randn(200), []
    for offset in (0, 4, 1, 8, 1):  # the third and last are aligned otherwise
        x, y = memory[offset : offset + 120].view(40, 3), torch.randn(40, 3)
        first, total = combined(x, y)
        torch.testing.assert_close(first, x * 2 + y)
        torch.testing.assert_close(total, x.sum())
        seen.append((first, total))
    assert len({f.data_ptr() for f, _ in seen}) == 5
    assert len(plans) == 1
    torch.testing.assert_close(combined(memory[:120].view(40, 3), torch.zeros(40, 3), 3.0)[0],
                               memory[:120].view(40, 3) * 3)
    with pytest.raises(tl.UserError, match="requires a gradient"):
        combined(torch.ones(40, 3, requires_grad=True), torch.ones(40, 3))
    turned = torch.randn(3, 40).t()
    torch.testing.assert_close(combined(turned, turned)[0], turned * 3)
