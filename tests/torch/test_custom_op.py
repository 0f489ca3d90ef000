"""Kernels and fused functions as operators of torch."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import tilus as tl  # noqa: E402
import tilus.torch  # noqa: E402


@tl.fuse
def rms_norm(x, w, eps: float = 1e-5):
    return x * tl.rsqrt(tl.mean(x * x, axis=-1, keepdims=True) + eps) * w


@tl.fuse
def rms_norm_backward(g, x, w):
    r = tl.rsqrt(tl.mean(x * x, axis=-1, keepdims=True) + 1e-5)
    n = x * r
    h = g * w
    return r * (h - n * tl.mean(h * n, axis=-1, keepdims=True)), tl.sum(g * n, axis=0)


@tl.jit
def scaled(x: tl.f32["M", "N"], s: tl.f32, y: tl.f32["M", "N"], B: int = 64):
    i, j = tl.grid(x.shape[0], tl.cdiv(x.shape[1], B))
    tl.store(y, (i, j * B), tl.load(x, (i, j * B), (1, B)) * s)


@pytest.fixture(scope="module")
def norm() -> Any:
    backward = tilus.torch.custom_op(rms_norm_backward, outputs=2, name="tilus_tests::rms_norm_backward")
    return tilus.torch.custom_op(rms_norm, backward=lambda g, x, w, y: backward(g, x, w), name="tilus_tests::rms_norm")


@pytest.fixture(scope="module")
def scale() -> Any:
    return tilus.torch.custom_op(
        scaled, outputs={"y": lambda x, s, B: torch.empty_like(x)}, name="tilus_tests::scaled",
        backward=lambda g, x, y: g * 2.0)


def reference(x: Any, w: Any) -> Any:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * w


QUICK = ("test_schema", "test_faketensor", "test_autograd_registration")


def test_operators_are_well_made(norm: Any, scale: Any) -> None:
    """What torch checks without compiling anything."""
    for op, args in ((norm, (torch.randn(5, 33, requires_grad=True), torch.randn(33))),
                     (scale, (torch.randn(3, 70), 2.0))):
        assert set(torch.library.opcheck(op, args, test_utils=QUICK).values()) == {"SUCCESS"}


@pytest.mark.slow
def test_opcheck(norm: Any, scale: Any) -> None:
    x, w = torch.randn(5, 33, requires_grad=True), torch.randn(33, requires_grad=True)
    assert set(torch.library.opcheck(norm, (x, w)).values()) == {"SUCCESS"}
    assert set(torch.library.opcheck(scale, (torch.randn(3, 70), 2.0)).values()) == {"SUCCESS"}


def test_values_and_gradients(norm: Any) -> None:
    x, w = torch.randn(5, 33, requires_grad=True), torch.randn(33, requires_grad=True)
    norm(x, w).sin().sum().backward()
    got = x.grad, w.grad
    x.grad = w.grad = None
    reference(x, w).sin().sum().backward()
    torch.testing.assert_close(norm(x, w), reference(x, w))
    torch.testing.assert_close(got, (x.grad, w.grad), rtol=1e-4, atol=1e-5)


def test_in_a_compiled_graph(norm: Any) -> None:
    """One graph for all sizes, in which the operator stays as it is."""
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, w: norm(x, w).relu() + 1, backend="tilus", fullgraph=True, dynamic=True)
    w = torch.randn(33)
    for n in (5, 8):
        x = torch.randn(n, 33)
        torch.testing.assert_close(compiled(x, w), reference(x, w).relu() + 1)


def test_vmap(norm: Any) -> None:
    x, w = torch.randn(4, 5, 33), torch.randn(33)
    torch.testing.assert_close(torch.vmap(norm, (0, None))(x, w), reference(x, w))


def test_a_kernel_that_writes(scale: Any) -> None:
    x = torch.randn(3, 70)
    assert torch.equal(scale(x, 2.0, B=32), x * 2)


def test_wrong_outputs() -> None:
    for kernel, outputs in ((scaled, None), (scaled, {"z": torch.empty_like}), (rms_norm, {"x": torch.empty_like})):
        with pytest.raises(tl.UserError):
            tilus.torch.custom_op(kernel, outputs=outputs, name="tilus_tests::wrong")


def test_a_parameter_that_operators_lack() -> None:
    @tl.fuse
    def function(x, dtype: tl.DType):
        return x.to(dtype)

    with pytest.raises(tl.UserError, match="a type that operators of torch lack"):
        tilus.torch.custom_op(function, name="tilus_tests::cast")

    @tl.fuse
    def by_default(x, dtype: tl.DType = tl.f16):
        return x.to(dtype)

    x = torch.randn(5)
    assert torch.equal(tilus.torch.custom_op(by_default, name="tilus_tests::half")(x), x.half())


def test_neither_a_kernel_nor_a_function() -> None:
    with pytest.raises(tl.UserError, match="an operator is made of a Python int"):
        tilus.torch.custom_op(3)
