"""What is enqueued on a CUDA device, against the interpreter's way through the launch function: on a stand-in for the
driver, with arrays of a stand-in for CuPy and with tensors that say that they are on a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.gemm import batched_matmul, matmul, matmul_split_k
from kernels_zoo.normalization import layer_norm
from tests.fake_gpu import stand_in
from tests.fake_gpu.driver import Enqueued, StandIn, Zeroed
from tilus.diagnostics import CheckError, ToolchainError, UserError
from tilus.interp import evaluate_launch
from tilus.interp.numbers import held_as
from tilus.ir.dtypes import DType, parse_dtype
from tilus.runtime.arrays import CUDA, ArrayArgument, contiguous
from tilus.runtime.jit import Prepared
from tilus.runtime.nvidia import driver, libraries
from tilus.runtime.nvidia.engines import has_to_be_folded, pack
from tilus.runtime.scalars import convert_scalar, scalar_bits

ALIGNED = 256


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = stand_in()
    monkeypatch.setitem(sys.modules, "cupy", found)
    return found


@pytest.fixture
def device(cupy: Any) -> Iterator[StandIn]:
    """A driver that takes note of what it is given."""
    found = StandIn()
    before = driver.install(driver.Driver(found))
    forget_kernels()
    yield found
    driver.install(before)
    forget_kernels()


def forget_kernels() -> None:
    """They are loaded by the driver that there was."""
    for kernel in (added, numbered, together, asserting, mean_and_more, two_products, sorted_rows, matmul.matmul,
                   batched_matmul.batched_matmul, matmul_split_k.matmul_split_k, layer_norm.layer_norm):
        kernel.forget()


class Workspaces:
    """Takes note of the memory that a library gives."""

    def __init__(self, cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[Any] = []
        allocate = cupy.cuda.alloc
        monkeypatch.setattr(cupy.cuda, "alloc", lambda size: self.given.append(allocate(size)) or self.given[-1])
        libraries._cupy_library.cache_clear()


@pytest.fixture
def workspaces(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspaces]:
    yield Workspaces(cupy, monkeypatch)
    libraries._cupy_library.cache_clear()


def expected(prepared: Prepared, base: int, device: StandIn) -> list[Enqueued | Zeroed]:
    """What the interpreter's way through the launch function enqueues, for workspaces from an address on."""
    kernel = prepared.compile().bound(prepared.call.arguments).kernel
    found: list[Enqueued | Zeroed] = []
    zeroed: list[Enqueued | Zeroed] = []
    reached = [base]

    def allocate(shape: tuple[int, ...], dtype: DType, zero: bool) -> ArrayArgument:
        size = -(-int(np.prod(shape, dtype=np.int64)) * dtype.packed_bits // 32) * 4
        address = reached[0]
        reached[0] += -(-size // ALIGNED) * ALIGNED
        if zero and size:
            zeroed.append(Zeroed(address, size, 0))
        return ArrayArgument(None, CUDA, dtype, address, shape, contiguous(shape), True)

    def start(name: str, grid: tuple[int, ...], args: list[Any]) -> None:
        facts = kernel.facts[name]
        if has_to_be_folded(facts, grid):
            facts = kernel._compiled(folded=True).launches[name]
        blocks, values = pack(facts, grid, kernel.module, name, args)
        found.append(Enqueued(name, blocks, (facts.threads, 1, 1), facts.dynamic_shared_bytes, 0, facts.cooperative,
                              tuple(parameter(v, t) for v, t in values), b"", 0))

    evaluate_launch(kernel.module.launch, prepared.call.arguments, allocate=allocate, start=start,
                    resident_blocks=lambda: kernel.resident)
    return zeroed + found


def parameter(value: Any, type_: str) -> bytes:
    if type_ == "pointer":
        return int(value.address).to_bytes(8, "little")
    dtype = parse_dtype(type_)
    return np.asarray(value, held_as(dtype)).astype(dtype.numpy).tobytes()


def check(kernel: Any, arguments: list[Any], device: StandIn, workspaces: Workspaces, calls: int = 4,
          **constants: Any) -> list[Enqueued | Zeroed]:
    """Calls, of which the last ones are warm, enqueue what is expected; gives that of one."""
    given: list[Any] = []
    for _ in range(calls):
        device.enqueued.clear()
        workspaces.given.clear()
        result = kernel(*arguments, **constants)
        outputs = [] if result is None else list(result) if isinstance(result, tuple) else [result]
        assert len(workspaces.given) <= 1 + len(outputs)
        base = workspaces.given[-1].ptr if workspaces.given else 0
        if outputs:
            constants = {**constants, "out": outputs[0] if len(outputs) == 1 else tuple(outputs)}
        prepared = kernel.prepared(None, tuple(arguments), constants)
        found = [e._replace(cubin=b"") if isinstance(e, Enqueued) else e for e in device.enqueued]
        assert found == expected(prepared, base, device)
        given = found
    assert not device.current
    return given


def on_device(cupy: Any, *arrays: Any) -> list[Any]:
    return [cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in arrays]


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@tl.jit
def added(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["N"], BLOCK: int = 128):
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(z, i, tl.load(x, i, BLOCK) + tl.load(y, i, BLOCK))


@tl.fuse
def mean_and_more(x: tl.f32["M", "N"]):
    """Several kernels, and workspaces between them."""
    return x - tl.mean(x), tl.sum(x, axis=0)


@tl.fuse
def two_products(x: tl.f16["M", "K"], a: tl.f16["K", "L"], b: tl.f16["L", "N"]):
    y = (x @ a) @ b
    return tl.exp(y - tl.max(y, axis=1, keepdims=True))


@tl.fuse
def sorted_rows(x: tl.f32["M", "N"]):
    return tl.sort(x, axis=1)


CASES: dict[str, Callable[[], tuple[Any, list[Any], dict[str, Any]]]] = {
    "added": lambda: (added, [numbers(1000), numbers(1000), numbers(1000)], {}),
    "no blocks": lambda: (added, [numbers(0), numbers(0), numbers(0)], {}),
    "matmul": lambda: (matmul.matmul, list(matmul.case((300, 200, 70)).arguments), {}),
    "much shared memory": lambda: (matmul.matmul, list(matmul.case((70, 100, 90)).arguments),
                                   {"BM": 64, "BN": 128, "BK": 64, "stages": 3}),
    "batched": lambda: (batched_matmul.batched_matmul, list(batched_matmul.case((3, 70, 50, 40)).arguments), {}),
    "split k": lambda: (matmul_split_k.matmul_split_k, list(matmul_split_k.case((64, 64, 512)).arguments), {}),
    "layer norm": lambda: (layer_norm.layer_norm, list(layer_norm.case((10, 300)).arguments), {}),
    "mean": lambda: (mean_and_more, [numbers(500, 700)], {}),
    "mean of nothing": lambda: (mean_and_more, [numbers(0, 7)], {}),
    "products": lambda: (two_products, [numbers(40, 30, dtype=np.float16), numbers(30, 50, dtype=np.float16),
                                        numbers(50, 20, dtype=np.float16)], {}),
    "sorted": lambda: (sorted_rows, [numbers(5, 5000)], {}),
}


@pytest.mark.sweep(keep=11)
@pytest.mark.parametrize("name", CASES)
def test_what_is_enqueued(name: str, cupy: Any, device: StandIn, workspaces: Workspaces) -> None:
    kernel, arguments, constants = CASES[name]()
    found = check(kernel, on_device(cupy, *arguments), device, workspaces, **constants)
    assert bool(found) == (name != "no blocks")


def test_each_way_of_a_call_enqueues_the_same(cupy: Any, device: StandIn) -> None:
    """The first, planned, and compiled calls, and those on an engine."""
    arrays = on_device(cupy, numbers(1000), numbers(1000), numbers(1000))
    for call in [added] * 4 + [added.on("cuda")] * 3:
        call(*arrays)
    assert type(added.called).__name__ == "builtin_function_or_method"
    assert len(device.enqueued) == 7
    assert len(set(device.enqueued)) == 1
    others = on_device(cupy, numbers(1000), numbers(1000), numbers(1000))
    added(*others)
    first, *_, last = device.enqueued[-1].parameters
    assert int.from_bytes(first, "little") == others[0].data.ptr
    assert int.from_bytes(last, "little") == others[2].data.ptr


SCALARS = ("i8", "i16", "i32", "i64", "u8", "u32", "u64", "f16", "bf16", "f32", "f64", "bool")


@pytest.mark.parametrize("name", SCALARS)
def test_scalars(name: str, cupy: Any, device: StandIn) -> None:
    dtype = parse_dtype(name)

    @tl.jit
    def filled(x: tl.f64["N"], s: dtype):
        i = tl.grid(tl.cdiv(x.shape[0], 32)) * 32
        tl.store(x, i, tl.full(32, s.to(dtype)).to(tl.f64))

    (x,) = on_device(cupy, np.zeros(70))
    values = [True, False] if dtype.is_bool else [1.5, -0.0] if dtype.is_float else [dtype.max_value, dtype.min_value]
    for value in values * 2:
        filled(x, value)
        parameters = dict(zip(names_of(filled, x, value), device.enqueued[-1].parameters, strict=True))
        given = parameters["s"]
        assert int.from_bytes(given, "little") == \
            scalar_bits(convert_scalar("s", dtype, value), dtype) % (1 << 8 * dtype.itemsize)
        assert len(given) == dtype.itemsize


def names_of(kernel: Any, *arguments: Any) -> list[str]:
    prepared = kernel.prepared(None, arguments, {})
    (facts,) = prepared.compile().bound(prepared.call.arguments).kernel.facts.values()
    return [name for name, _ in facts.arguments]


@tl.jit
def numbered(out: tl.i32["N"], x: tl.i32, y: tl.i32):
    i, j = tl.grid(x, y)
    tl.store(out, 0, tl.full(1, i + j).to(tl.i32))


def test_long_grids_are_folded(cupy: Any, device: StandIn) -> None:
    (out,) = on_device(cupy, np.zeros(1, np.int32))
    for x, y in ((3, 5), (3, 5), (3, 5), (3, 70000), (3, 70000), (3, 70000), (70000, 3), (0, 70000)):
        numbered(out, x, y)
    grids = [launch.grid for launch in device.enqueued]
    assert grids == [(3, 5, 1)] * 3 + [(210000, 1, 1)] * 3 + [(70000, 3, 1)]
    folded = device.enqueued[3].parameters
    assert (3).to_bytes(4, "little") in folded


def test_too_many_blocks(cupy: Any, device: StandIn) -> None:
    (out,) = on_device(cupy, np.zeros(1, np.int32))
    numbered(out, 1, 1)
    numbered(out, 1, 1)
    with pytest.raises(UserError, match=r"E0606.*the grid has more than"):
        numbered(out, 1 << 30, 4)
    assert len(device.enqueued) == 2


@tl.jit
def together(out: tl.i32["N"], n: tl.i32):
    tl.block(cooperative=True)
    i = tl.grid(n)
    tl.grid_sync()
    tl.store(out, 0, tl.full(1, i).to(tl.i32))


def test_cooperative_launches(cupy: Any, device: StandIn) -> None:
    (out,) = on_device(cupy, np.zeros(1, np.int32))
    for n in (7, 8, 9):
        together(out, n)
        assert device.enqueued[-1].cooperative
        assert device.enqueued[-1].grid == (n, 1, 1)
    count = len(device.enqueued)
    for _ in range(2):
        with pytest.raises(UserError, match=r"E0606.*together is cooperative, but the device holds \d+ of its 99999 "):
            together(out, 99999)
    assert len(device.enqueued) == count


@tl.jit
def asserting(x: tl.f32["N"], n: tl.i32):
    tl.device_assert(n > 2, "n is too small")
    i = tl.grid(tl.cdiv(x.shape[0], 32)) * 32
    tl.store(x, i, tl.full(32, 1.0) * n)


def test_failed_assertions_enqueue_nothing(cupy: Any, device: StandIn) -> None:
    (x,) = on_device(cupy, numbers(64))
    for n in (3, 3, 3):
        asserting(x, n)
    for _ in range(2):
        with pytest.raises(CheckError, match=r"E0704.*n is too small"):
            asserting(x, 1)
    assert len(device.enqueued) == 3


def test_errors_of_the_driver_name_the_kernel(cupy: Any, device: StandIn) -> None:
    arrays = on_device(cupy, numbers(1000), numbers(1000), numbers(1000))
    for warm in range(4):
        device.error = 719
        with pytest.raises(ToolchainError) as caught:
            added(*arrays)
        error = caught.value.diagnostics[0]
        assert error.message == "the CUDA driver could not launch added: CUDA_ERROR_LAUNCH_FAILED"
        assert error.notes == ("what the driver says of it",)
        device.error = 0
        added(*arrays)
        assert len(device.enqueued) == warm + 1
        assert not device.current


def test_no_more_is_enqueued_after_an_error(cupy: Any, device: StandIn) -> None:
    (x,) = on_device(cupy, numbers(500, 700))
    out = mean_and_more(x)
    whole = [e.name for e in device.enqueued if isinstance(e, Enqueued)]
    assert len(whole) > 1
    device.enqueued.clear()
    device.execute = lambda launch: 719 if launch.name == whole[1] else 0
    with pytest.raises(ToolchainError, match=f"could not launch {whole[1]}"):
        mean_and_more(x, out=out)
    assert [e.name for e in device.enqueued] == whole[:2]


def test_arrays_on_several_devices(cupy: Any, device: StandIn) -> None:
    x, y, z = on_device(cupy, numbers(10), numbers(10), numbers(10))
    device.device_of = lambda address: int(address == y.data.ptr)
    with pytest.raises(UserError, match=r"E0601.*on several devices: \[0, 1\]"):
        added(x, y, z)


def test_each_device_has_kernels_of_its_own(cupy: Any, device: StandIn) -> None:
    """They run in its context, whatever the thread's is."""
    near = on_device(cupy, numbers(10), numbers(10), numbers(10))
    far = on_device(cupy, numbers(10), numbers(10), numbers(10))
    places = {a.data.ptr for a in far}
    for array in far:
        array.data.device_id = 1
    device.device_of = lambda address: int(address in places)
    device.current.append(0xC001)
    for _ in range(4):
        added(*near)
        added(*far)
    assert [e.device for e in device.enqueued] == [0, 1] * 4
    assert device.current == [0xC001]


def test_the_doctor_names_the_devices(device: StandIn) -> None:
    from tilus.cli.doctor import _gpu

    assert _gpu() == "Fake A100 number 0, Fake A100 number 1"


def test_without_a_driver(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = driver.install(None)
    try:
        monkeypatch.setattr(driver, "_LIBRARY", "libnothing.so.1")
        added.forget()
        with pytest.raises(ToolchainError, match=r"E0901.*needs NVIDIA's driver, and there is no libnothing\.so\.1"):
            added(*on_device(cupy, numbers(10), numbers(10), numbers(10)))
    finally:
        driver.install(before)


# -- tensors


@pytest.fixture
def torch(device: StandIn, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Torch, whose tensors say that they are on the first GPU."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda self: False), raising=False)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True), raising=False)
    monkeypatch.setattr(torch.Tensor, "get_device", lambda self: 0, raising=False)

    def allocate(size: int) -> tuple[int, Any]:
        memory = torch.empty(size, dtype=torch.uint8)
        return memory.data_ptr(), memory

    monkeypatch.setattr(libraries, "torch_library", lambda number: library)
    library = libraries.Library("torch", lambda: 0x57, allocate)
    monkeypatch.setitem(sys.modules, "cupy", None)  # nothing of it is needed
    return torch


def test_tensors(torch: Any, device: StandIn) -> None:
    for _ in range(5):
        x, y, z = (torch.zeros(1000) for _ in range(3))
        version = z._version
        added(x, y, z)
        assert z._version == version + 1
        found = device.enqueued[-1]
        assert (found.stream, found.grid) == (0x57, (8, 1, 1))
        pointers = [int.from_bytes(p, "little") for p in found.parameters if len(p) == 8]
        assert pointers == [t.data_ptr() for t in (x, y, z)]
    assert type(added.called).__name__ == "builtin_function_or_method"


def test_fused_functions_of_tensors(torch: Any, device: StandIn) -> None:
    counts = []
    for _ in range(5):
        device.enqueued.clear()
        x = torch.ones(500, 700)
        centred, sums = mean_and_more(x)
        assert (centred.shape, sums.shape) == ((500, 700), (700,))
        launches = [e for e in device.enqueued if isinstance(e, Enqueued)]
        counts.append(len(launches))
        assert {e.stream for e in device.enqueued} == {0x57}
        assert any(x.data_ptr().to_bytes(8, "little") in e.parameters for e in launches)
        assert any(centred.data_ptr().to_bytes(8, "little") in e.parameters for e in launches)
    assert counts == [counts[0]] * 5
