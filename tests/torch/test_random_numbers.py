"""Random numbers in compiled graphs: of torch's generator, other ones at each call, the same in the backward graph."""

from __future__ import annotations

from typing import Any

import pytest

from tests.torch.graphs import compiled, left, torch
from tilus.torch.report import reports

F = torch.nn.functional


def fused(function: Any, **options: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(function, backend="tilus", fullgraph=True, options=options)


def test_dropout_keeps_as_many_and_follows_the_generator() -> None:
    x = torch.full((200, 300), 3.0)
    run = fused(lambda x: F.dropout(x, 0.25))
    torch.manual_seed(5)
    first, second = run(x), run(x)
    torch.manual_seed(5)
    again = run(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    kept = first != 0
    assert abs(kept.float().mean() - 0.75) < 0.01
    assert torch.allclose(first[kept], torch.tensor(4.0))
    assert torch.equal(fused(lambda x: F.dropout(x, 0.3, training=False))(x), x)
    assert not fused(lambda x: F.dropout(x, 1.0))(x).any()


def test_the_backward_graph_sees_the_same_mask() -> None:
    x = torch.randn(40, 50, requires_grad=True)

    def function(x: Any) -> Any:
        return F.dropout(F.dropout(x, 0.5).exp(), 0.5)

    y = fused(function)(x)
    y.sum().backward()
    assert x.grad is not None
    both = (y != 0) & (y != 2)  # the inner mask is seen where the outer one kept an element
    assert torch.allclose(x.grad[both], 2 * y[both].detach())
    assert not x.grad[~both].any()
    assert 0.15 < both.float().mean() < 0.35


def test_what_is_computed_again_has_the_same_mask() -> None:
    def function(x: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(lambda x: F.dropout(x.exp(), 0.5) * 2, x, use_reentrant=False)

    x = torch.randn(200, requires_grad=True)
    y = fused(function)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())


def test_layers_draw_their_seeds_at_once() -> None:
    def function(x: Any) -> list[Any]:
        for _ in range(3):
            x = x + F.dropout(x.relu(), 0.5)
        return [x]

    torch.manual_seed(0)
    (found,), report = compiled(function, torch.ones(50, 50))
    assert [str(n.target) for n in report.left if "random" in str(n.target)] == ["tilus.random_seeds.default"]
    assert len(report.calls) == 1
    counts = torch.bincount(found.flatten().int(), minlength=28)
    assert all(200 < counts[n] < 1100 for n in (1, 3, 9))  # masks that have nothing to do with each other


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_distributions(dtype: Any) -> None:
    x = torch.zeros(400, 100, dtype=dtype)
    run = fused(lambda x: (torch.rand_like(x) + x, torch.randn_like(x) + x, torch.rand(300, 70, dtype=x.dtype) * 2,
                           torch.bernoulli(x + 0.25), torch.randn(40_000)))
    uniform, normal, twice, bits, wide = run(x)
    assert {uniform.dtype, normal.dtype, twice.dtype, bits.dtype} == {dtype}
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.double().mean() - 0.5) < 0.01
    assert abs(twice.double().mean() - 1) < 0.02
    assert abs(bits.double().mean() - 0.25) < 0.02
    for found in (normal.double(), wide):
        assert abs(found.mean()) < 0.03
        assert abs(found.var() - 1) < 0.05


def test_sizes_that_change() -> None:
    run = torch.compile(lambda x: F.dropout(x + 1, 0.5), backend="tilus", dynamic=True)
    with reports() as found:
        for rows in (5, 9, 33):
            assert set(run(torch.zeros(rows, 8)).unique().tolist()) <= {0.0, 2.0}
    assert left(found[0]) == ["aten.randint.low"]


def test_torchs_own_numbers_where_they_are_asked_for() -> None:
    x = torch.ones(30, 40)
    for function in (lambda x: torch.rand_like(x) * 2, lambda x: torch.bernoulli(x * 0.5) + 1):
        torch.manual_seed(3)
        wanted = function(x)
        torch.manual_seed(3)
        assert torch.equal(fused(function, fallback_random=True)(x), wanted)


def test_a_generator_of_the_users_is_torchs() -> None:
    generator = torch.Generator()

    def function(x: Any) -> Any:
        return torch.bernoulli(x, generator=generator) * 2

    generator.manual_seed(1)
    wanted = function(torch.full((9, 9), 0.5))
    generator.manual_seed(1)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(function, backend="tilus")(torch.full((9, 9), 0.5)), wanted)
