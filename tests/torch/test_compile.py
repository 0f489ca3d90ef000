"""``torch.compile(backend="tilus")`` from end to end: training, sizes that change, options, errors."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import tilus as tl  # noqa: E402
import tilus.torch  # noqa: E402
from tilus.ir.printer import print_module  # noqa: E402
from tilus.lowering.array.tiles import GPU_TILES  # noqa: E402
from tilus.torch.registry import Refused  # noqa: E402
from tilus.torch.report import reports  # noqa: E402

nn, F = torch.nn, torch.nn.functional


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


def test_an_mlp() -> None:
    model = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 10), nn.Softmax(-1))
    x = torch.randn(8, 32)
    compiled = torch.compile(model, backend=tilus.torch.backend)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(compiled(x), model(x))


def test_the_name_is_registered() -> None:
    """By the package's metadata where it is installed, otherwise by the import."""
    assert torch.equal(torch.compile(torch.neg, backend="tilus")(torch.ones(3)), -torch.ones(3))
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '[project.entry-points.torch_dynamo_backends]\ntilus = "tilus.torch.backend:backend"' in text


def test_a_training_step() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Tanh(), nn.BatchNorm1d(16), nn.Linear(16, 4))
    twin = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Tanh(), nn.BatchNorm1d(16), nn.Linear(16, 4))
    twin.load_state_dict(model.state_dict())
    x, target = torch.randn(10, 6), torch.randn(10, 4)
    compiled = torch.compile(model, backend=tilus.torch.backend, options={"engine": "interpret"})
    with reports() as found:
        F.mse_loss(compiled(x), target).backward()
    F.mse_loss(twin(x), target).backward()
    assert [report.kind for report in found] == ["forward", "backward"]
    assert not any(reason for report in found for reason in report.left.values())
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(model.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_sizes_that_change() -> None:
    def function(x: Any, y: Any) -> Any:
        return (x @ y.transpose(1, 2)).softmax(-1) * x.shape[0] + x.mean(0).sum(-1, keepdim=True)

    compiled = torch.compile(function, backend=tilus.torch.backend, dynamic=True, options={"engine": "interpret"})
    with reports() as found:
        for n, m in ((3, 5), (4, 7), (6, 5)):
            x, y = torch.randn(n, m, 7), torch.randn(n, m, 7)
            torch.testing.assert_close(compiled(x, y), function(x, y))
    assert len(found) == 1


def test_training_on_sizes_that_change() -> None:
    """Numbers that follow from the sizes are parameters."""
    model, twin = (nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    compiled = torch.compile(model, backend=tilus.torch.backend, dynamic=True, options={"engine": "interpret"})
    with reports() as found:
        for n in (5, 7):
            x = torch.randn(n, 6)
            compiled(x).square().mean().backward()
            twin(x).square().mean().backward()
    assert not any(reason for report in found for reason in report.left.values())
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", [
    lambda x: (x.nonzero().float() * 2 + 1, x.nonzero().t().float().exp()), lambda x: x[x > 0] * 2 + 1],
    ids=["nonzero", "mask"])
def test_sizes_that_follow_from_data(function: Any) -> None:
    """Torch knows nothing of them before, and they are left to it."""
    torch._dynamo.reset()
    compiled = torch.compile(function, backend="tilus", fullgraph=True)
    for x in (torch.randn(5, 4), torch.zeros(3, 2), torch.eye(1)):
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
            found, wanted = compiled(x), function(x)
        for y, z in zip(*((r if isinstance(r, tuple) else (r,)) for r in (found, wanted)), strict=True):
            assert y.shape == z.shape
            assert torch.allclose(y, z)


def test_numbers_that_change() -> None:
    def function(x: Any, n: int, s: float) -> Any:
        return (x * n).sum() / n + s * x

    compiled = torch.compile(function, backend=tilus.torch.backend, dynamic=True, options={"engine": "interpret"})
    for n, s in ((3, 0.5), (4, 1.5), (7, 2.5)):
        x = torch.randn(4)
        torch.testing.assert_close(compiled(x, n, s), function(x, n, s))


def test_arguments_that_are_changed_and_results_that_are_views() -> None:
    def function(x: Any, b: Any) -> Any:
        x.add_(b).mul_(2)
        b[0] = 7.0
        y = x * 2
        return x, x[0], y, y.t(), y, None, 3, "text"

    compiled = torch.compile(function, backend=tilus.torch.backend, options={"engine": "interpret"})
    mine, theirs = (torch.ones(3, 4), torch.ones(4)), (torch.ones(3, 4), torch.ones(4))
    got, wanted = compiled(*mine), function(*theirs)
    torch.testing.assert_close((*got[:5], *mine), (*wanted[:5], *theirs))
    assert got[5:] == wanted[5:]
    assert got[1].data_ptr() == mine[0].data_ptr()


def test_autocast() -> None:
    model, x = nn.Linear(16, 16), torch.randn(4, 16)
    compiled = torch.compile(model, backend=tilus.torch.backend, options={"engine": "interpret"})
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        got, wanted = compiled(x), model(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, wanted, rtol=2e-2, atol=2e-2)


def test_wrong_modes_and_options() -> None:
    x = torch.ones(3)
    torch.compile(torch.exp, backend=tilus.torch.backend, mode="max-autotune", options=None)(x)
    for given, message in (({"mode": "fastest"}, "no mode 'fastest'"),
                           ({"options": {"quick": 1}}, "no option 'quick'")):
        torch._dynamo.reset()
        with pytest.raises(Exception, match=message) as raised:
            torch.compile(torch.exp, backend=tilus.torch.backend, **given)(x)
        assert "test_compile.py" in str(raised.value)


def break_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, tiles: Any) -> Any:
        raise tl.UserError.at("E0202", "it does not fit", self.span(""))

    monkeypatch.setattr("tilus.torch.graph.FusedNodes.program", broken)


def test_what_does_not_compile_is_torchs_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    break_compilation(monkeypatch)
    compiled = torch.compile(lambda x: x.exp() + 1, backend=tilus.torch.backend)
    x = torch.randn(3)
    with pytest.warns(UserWarning, match=r"aten\.exp\.default, aten\.add\.Tensor.*it does not fit") as caught:
        torch.testing.assert_close(compiled(x), x.exp() + 1)
    assert len([w for w in caught if "does not fit" in str(w.message)]) == 1
    assert "lambda x: x.exp() + 1" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(x)


def test_a_rule_that_refuses_late_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(node: Any, *rest: Any) -> Any:
        raise Refused("these arguments")

    monkeypatch.setattr("tilus.torch.graph.compute", refusing)
    x = torch.randn(3)
    with pytest.warns(UserWarning, match=r"aten\.exp\.default: these arguments"):
        torch.testing.assert_close(torch.compile(lambda x: x.exp().cosh(), backend="tilus")(x), x.exp().cosh())


@pytest.mark.parametrize("given", [{"fullgraph": True}, {"options": {"fallback": False}}])
def test_what_does_not_compile_is_an_error_where_that_is_asked_for(given: dict[str, Any],
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    break_compilation(monkeypatch)
    with pytest.raises(tl.UserError, match="does not fit"):
        torch.compile(torch.exp, backend=tilus.torch.backend, **given)(torch.ones(3))


def test_explain() -> None:
    def function(x: Any) -> Any:
        y = (x @ x).relu().logcumsumexp(0)
        return y.softmax(-1).t()

    text = tilus.torch.explain(function, torch.randn(8, 8))
    assert "graph 0 (inference): 2 fused functions, 1 operator left to torch" in text
    assert "  mm_relu: mm.default, relu.default\n    1 kernel: " in text
    line = function.__code__.co_firstlineno + 1
    assert f"  torch: logcumsumexp.default: no rule ({__file__}:{line})" in text
    assert "  views and copies by torch: permute.default" in text


def test_what_the_disk_cache_is_asked_for_is_the_same_anew() -> None:
    """It depends on no objects, counters or names of nodes."""
    def texts() -> list[str]:
        torch._dynamo.reset()
        with reports() as found, torch.no_grad():
            torch.compile(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), backend="tilus", options={"engine": "interpret"})(
                torch.ones(3, 4))
        return [print_module(call.fused.program(GPU_TILES).trace(), locations=True) for call in found[0].calls]

    first = texts()
    options = {"engine": "interpret"}
    torch.compile(lambda y: y.exp().logcumsumexp(0) + 1, backend="tilus", options=options)(torch.ones(2))
    assert texts() == first


@pytest.mark.slow
def test_another_process_finds_the_code(tmp_path: Path) -> None:
    """What is compiled is named by what it says, not by objects or counters."""
    program = tmp_path / "model.py"
    program.write_text(
        "import sys, torch, tilus.torch\n"
        "import tilus.runtime.cache as cache\n"
        "for _ in range(int(sys.argv[1])):\n"
        "    torch.compile(lambda y: y + 1, backend='eager')(torch.ones(2))\n"
        "built = []\n"
        "old = cache.Cache.get_or_build\n"
        "def get(self, key, build):\n"
        "    return old(self, key, lambda: (built.append(key), build())[1])\n"
        "cache.Cache.get_or_build = get\n"
        "model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))\n"
        "with torch.no_grad():\n"
        "    torch.compile(model, backend=tilus.torch.backend)(torch.ones(3, 4))\n"
        "print(len(built))\n")
    counts = [subprocess.run([sys.executable, program, turns], text=True, capture_output=True, check=True,
                             cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."},
                             ).stdout for turns in ("0", "3")]
    assert int(counts[0]) > 0
    assert int(counts[1]) == 0
