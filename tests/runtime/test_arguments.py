"""Arrays of all kinds on every engine: each is right, or refused with a message that says what is wrong with it."""

import ctypes
import warnings
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tilus.runtime.arrays import overlaps_itself
from tilus.runtime.recognise import as_array

ENGINES = ("python", "interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda")
N = 37


@tl.jit
def double(x: tl.f32["N"], y: tl.f32["N"], B: int = 16):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.store(y, i * B, tl.load(x, i * B, B) * 2)


@tl.jit
def double_any(x: tl.f16["N"] | tl.bf16["N"] | tl.f64["N"] | tl.i8["N"] | tl.u64["N"],
               y: tl.f32["N"], B: int = 16):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.store(y, i * B, tl.load(x, i * B, B).to(tl.f32) * 2)


twice = tl.fuse(lambda x: x * 2)


def numbers(n: int = N) -> np.ndarray:
    return np.arange(n, dtype=np.float32) - 5


class Dlpack:
    """Of the protocol with versions."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **given: Any) -> Any:
        return self.array.__dlpack__(**given)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class OldDlpack(Dlpack):
    """Of the protocol before versions: it knows no ``max_version``, and says nothing of what can be written."""

    def __dlpack__(self, stream: Any = None) -> Any:  # type: ignore[override]
        return self.array.__dlpack__()


class LyingDlpack(Dlpack):
    def __dlpack_device__(self) -> Any:
        return (2, 0)


class FailingDlpack(Dlpack):
    def __dlpack__(self, **given: Any) -> Any:
        raise BufferError("not today")


class ArrayInterface:
    def __init__(self, array: np.ndarray) -> None:
        self.array, self.__array_interface__ = array, array.__array_interface__


class CudaInterface:
    def __init__(self, **changes: Any) -> None:
        self.__cuda_array_interface__ = {"shape": (N,), "typestr": "<f4", "data": (0xDEAD0000, False), "version": 3,
                                         "strides": None, **changes}


class Tricky:
    @property
    def __cuda_array_interface__(self) -> Any:
        raise RuntimeError("none here")


def odd_inputs() -> dict[str, tuple[Callable[[], Any], str | None]]:
    """Inputs by name: how they are made, and what is said of those that are refused (None: they are right)."""
    x = numbers()
    record = np.zeros(N, np.dtype([("a", np.int8), ("v", np.float32)]))
    record["v"] = x
    aligned = np.zeros(N, np.dtype([("v", np.float32), ("w", np.float32)]))
    aligned["v"] = x
    misaligned = np.zeros(4 * N + 1, np.uint8)[1:].view(np.float32)
    padded = np.zeros((N, 3), np.float32)
    padded[:, 1] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "plain": (lambda: x, None),
        "read-only": (lambda: read_only, None),
        "reversed": (lambda: x[::-1].copy()[::-1], None),
        "column": (lambda: padded[:, 1], None),
        "broadcast": (lambda: np.broadcast_to(np.float32(3), (N,)), None),
        "windows": (lambda: np.lib.stride_tricks.as_strided(x, (N,), (0,)), None),
        "field of an aligned record": (lambda: aligned["v"], None),
        "subclass": (lambda: x.view(type("Mine", (np.ndarray,), {})), None),
        "array interface": (lambda: ArrayInterface(x), None),
        "dlpack": (lambda: Dlpack(x), None),
        "dlpack, read-only": (lambda: Dlpack(read_only), None),
        "dlpack, old": (lambda: OldDlpack(x), None),
        "dlpack, reversed": (lambda: Dlpack(x[::-1]), None),
        "rank 2": (lambda: x[None], "has rank 2"),
        "masked": (lambda: np.ma.array(x, mask=x > 3), "masked array"),
        "byte-swapped": (lambda: x.astype(">f4"), "other byte order"),
        "field of a packed record": (lambda: record["v"], "strides are not multiples"),
        "record": (lambda: record, "pass its fields"),
        "misaligned": (lambda: misaligned, "is misaligned"),
        "object": (lambda: x.astype(object), "arrays of object"),
        "complex": (lambda: x.astype(np.complex64), r"x.real"),
        "datetime": (lambda: np.zeros(N, "M8[s]"), "np.int64"),
        "text": (lambda: np.zeros(N, "U4"), "arrays of <U4"),
        "long double": (lambda: x.astype(np.longdouble), "arrays of "),
        "double": (lambda: x.astype(np.float64), r"x.astype\(np.float32\)"),
        "int4": (lambda: x.astype(ml_dtypes.int4), "arrays of int4"),
        "rank 0": (lambda: np.float32(3), "has rank 0"),
        "list": (lambda: [1.0] * N, "is a Python list"),
        "number": (lambda: 3.0, "is a Python float"),
        "nothing": (lambda: None, "is None"),
        "class": (lambda: np.ndarray, "is a Python type"),
        "memory view": (lambda: memoryview(x), "is a Python memoryview"),
        "tricky": (lambda: Tricky(), "is a Python Tricky"),
        "dlpack, lying": (lambda: LyingDlpack(x), "CuPy is not installed"),
        "dlpack, failing": (lambda: FailingDlpack(x), "BufferError: not today"),
        "cuda": (lambda: CudaInterface(), "some arrays are in host memory and some on a GPU"),
        "cuda, malformed": (lambda: CudaInterface(data=None), "malformed"),
        "cuda, masked": (lambda: CudaInterface(mask=x), "has a mask"),
        "cuda, odd strides": (lambda: CudaInterface(strides=(6,)), "strides are not multiples"),
    }


def odd_outputs() -> dict[str, tuple[Callable[[], tuple[Any, np.ndarray]], str | None]]:
    """Outputs by name: the argument and the array that has to hold the result."""

    def of(make: Callable[[np.ndarray], Any], base: Any = None) -> Callable[[], tuple[Any, np.ndarray]]:
        def build() -> tuple[Any, np.ndarray]:
            array = np.zeros(N, np.float32) if base is None else base()
            return make(array), array

        return build

    def read_only(array: np.ndarray) -> np.ndarray:
        view = array.view()
        view.flags.writeable = False
        return view

    def strided(shape: tuple[int, ...], strides: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda array: np.lib.stride_tricks.as_strided(array, shape, strides, writeable=True)

    return {
        "reversed": (of(lambda a: a[::-1], lambda: np.zeros(N, np.float32)[::-1]), None),
        "column": (of(lambda a: a, lambda: np.zeros((N, 3), np.float32)[:, 1]), None),
        "array interface": (of(ArrayInterface), None),
        "dlpack": (of(Dlpack), None),
        "dlpack, old": (of(OldDlpack), None),
        "read-only": (of(read_only), "is read-only"),
        "dlpack, read-only": (of(lambda a: Dlpack(read_only(a))), "is read-only"),
        "one element": (of(strided((N,), (0,))), "some of its elements are one in memory"),
        "masked": (of(lambda a: np.ma.array(a, mask=a == 0)), "masked array"),
        "too short": (of(lambda a: a[1:]), "dimension 'N' has two values"),
    }


@pytest.fixture
def torch() -> Any:
    module = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of prototypes and deprecations that are meant here
        yield module


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", odd_inputs())
def test_inputs(name: str, engine: str) -> None:
    make, refusal = odd_inputs()[name]
    x, y = make(), np.zeros(N, np.float32)
    if refusal is not None:
        with pytest.raises(tl.UserError, match=refusal) as caught:
            double.on(engine)(x, y)
        assert "'x'" in str(caught.value) or name == "cuda"
        assert not y.any()
        return
    double.on(engine)(x, y)
    held = as_array(x)
    assert held is not None
    assert np.array_equal(y, held.array * 2)
    if engine != "python":
        assert np.array_equal(twice.on(engine)(x), y)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", odd_outputs())
def test_outputs(name: str, engine: str) -> None:
    make, refusal = odd_outputs()[name]
    y, array = make()
    x = numbers()
    if refusal is not None:
        with pytest.raises(tl.UserError, match=refusal):
            double.on(engine)(x, y)
        if engine != "python":
            with pytest.raises(tl.UserError, match="dimension" if name == "too short" else refusal):
                twice.on(engine)(x, out=y)
        assert not array.any()
        return
    double.on(engine)(x, y)
    held = as_array(y)
    assert held is not None
    assert np.array_equal(held.array, x * 2)
    assert np.array_equal(np.sort(array), np.sort(x * 2))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["f2", ml_dtypes.bfloat16, "f8", "i1", "u8"])
def test_element_types_through_every_protocol(dtype: Any, engine: str) -> None:
    x = np.arange(N).astype(dtype)
    others = () if dtype is ml_dtypes.bfloat16 else (ArrayInterface(x), Dlpack(x), OldDlpack(x))
    for value in (x, *others):
        y = np.zeros(N, np.float32)
        double_any.on(engine)(value, y)
        assert np.array_equal(y, np.arange(N) * 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_empty_arrays(engine: str) -> None:
    for x in (np.zeros(0, np.float32), np.zeros((5, 0), np.float32)[2], numbers()[N:], Dlpack(np.zeros(0, np.float32))):
        double.on(engine)(x, np.zeros(0, np.float32))


def test_a_single_element_has_no_strides() -> None:
    record = np.zeros(1, np.dtype([("a", np.int8), ("v", np.float32)]))
    record["v"] = 3
    aligned = np.ndarray(1, np.float32, np.array([3], np.float32).tobytes(), 0, (5,))
    y = np.zeros(1, np.float32)
    double(aligned, y)
    assert y[0] == 6
    with pytest.raises(tl.UserError, match="is misaligned"):
        double(record["v"], y)


@pytest.mark.parametrize("engine", ENGINES)
def test_overlaps(engine: str) -> None:
    """Written arrays and the others, and what tl.may_alias lifts."""
    data = np.zeros(3 * N, np.float32)
    for x, y in ((data[:N], data[N - 1 :][:N]), (data[:N], data[:N]), (data[: 2 * N : 2], data[N + 1 :: 1][:N])):
        with pytest.raises(tl.UserError, match="'y' is written and overlaps 'x'"):
            double.on(engine)(x, y)
    double.on(engine)(data[: 2 * N : 2], data[1 : 2 * N : 2])  # one beside the other, elements by turns

    @tl.jit
    def same(x: tl.f32["N"], y: tl.f32["N"]):
        tl.grid(1)
        tl.may_alias(x, y)
        tl.store(y, 0, tl.load(x, 0, 8) + 1)

    @tl.jit
    def alone(y: tl.f32["N"]):
        tl.grid(1)
        tl.may_alias(y)
        y[3] = 5.0

    same.on(engine)(data, data)
    assert np.array_equal(data[:9], [1] * 8 + [0])
    one = np.zeros(1, np.float32)
    alone.on(engine)(np.lib.stride_tricks.as_strided(one, (8,), (0,)))
    assert one[0] == 5


def test_overlap_within_an_array() -> None:
    """Against the addresses written out."""
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(3000):
        rank = int(random.integers(1, 4))
        shape = tuple(int(n) for n in random.integers(0, 5, rank))
        strides = tuple(int(s) for s in random.integers(-9, 10, rank))
        offsets = [sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(*shape)]
        right = len(set(offsets)) < len(offsets)
        seen.add(right)
        assert overlaps_itself(shape, strides) == right, (shape, strides)
    assert seen == {True, False}
    assert not overlaps_itself((1 << 20, 1 << 20), (1 << 20, 1))
    assert overlaps_itself((1 << 20, 1 << 20), (1, 1))
    assert overlaps_itself((1 << 20, 1 << 20), ((1 << 20) - 1, 1))


@pytest.mark.parametrize("engine", ENGINES)
def test_bf16_by_dlpack(torch: Any, engine: str) -> None:
    x = torch.arange(N).to(torch.bfloat16)
    y = np.zeros(N, np.float32)
    double_any.on(engine)(Dlpack(x), y)
    assert np.array_equal(y, np.arange(N) * 2)


def test_a_capsule_lives_as_long_as_the_argument() -> None:
    freed = []

    class Counting(Dlpack):
        def __del__(self) -> None:
            freed.append(1)

    held = as_array(Counting(np.arange(5.0)))
    assert held is not None
    assert not freed
    assert held.array.tolist() == [0, 1, 2, 3, 4]
    array = held.array
    del held
    assert not freed
    del array
    assert freed


def test_dlpack_tensors_that_are_not_taken() -> None:
    class Vectors(Dlpack):
        def __dlpack__(self, **given: Any) -> Any:
            capsule = self.array.__dlpack__()
            api = ctypes.pythonapi
            api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
            api.PyCapsule_GetPointer.restype = ctypes.c_void_p
            ctypes.c_uint16.from_address(api.PyCapsule_GetPointer(capsule, b"dltensor") + 22).value = 4
            return capsule

    class Nothing(Dlpack):
        def __dlpack__(self, **given: Any) -> Any:
            return 3

    for value, message in ((Vectors(numbers()), "4 lanes"), (Nothing(numbers()), "no DLPack capsule"),
                           (Dlpack(numbers().astype(np.complex64)), "element type")):
        with pytest.raises(tl.UserError, match=message):
            double(value, np.zeros(N, np.float32))


# torch


def torch_inputs(torch: Any) -> dict[str, tuple[Callable[[], Any], str | None]]:
    x = torch.from_numpy(numbers())

    class Plain(torch.Tensor):
        pass

    def fake() -> Any:
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            return torch.ones(N)

    def freed() -> Any:
        tensor = torch.ones(N)
        tensor.untyped_storage().resize_(0)
        return tensor

    def shorter() -> Any:
        tensor = torch.ones(N)
        tensor.untyped_storage().resize_(4 * N - 4)
        return tensor

    def negated() -> Any:
        view = torch.view_as_complex(torch.stack([x, x], 1)).conj().imag
        assert view.is_neg()
        return view

    return {
        "plain": (lambda: x, None),
        "strided": (lambda: torch.stack([x, x], 1)[:, 1], None),
        "expanded": (lambda: torch.tensor([3.0]).expand(N), None),
        "shared with numpy": (lambda: torch.from_numpy(numbers()), None),
        "subclass": (lambda: x.as_subclass(Plain), None),
        "buffer": (lambda: torch.nn.Buffer(x), None),
        "frozen parameter": (lambda: torch.nn.Parameter(x, requires_grad=False), None),
        "real part": (lambda: torch.view_as_complex(torch.stack([x, x], 1)).real, None),
        "unfolded": (lambda: torch.arange(2.0 * N).unfold(0, N, 1)[3], None),
        "dlpack": (lambda: Dlpack(x), None),
        "resolved": (lambda: negated().resolve_neg(), None),
        "parameter": (lambda: torch.nn.Parameter(x), "requires a gradient"),
        "in a graph": (lambda: torch.ones(N, requires_grad=True) * 2, "requires a gradient"),
        "negated": (negated, r"x.resolve_neg\(\)"),
        "conjugated": (lambda: torch.zeros(N, dtype=torch.complex64).conj(), "torch.view_as_real"),
        "sparse": (lambda: x.to_sparse(), r"layout sparse_coo(.|\n)*x.to_dense\(\)"),
        "compressed": (lambda: torch.eye(3).to_sparse_csr(), "layout sparse_csr"),
        "mkldnn": (lambda: x.to_mkldnn(), "layout mkldnn"),
        "meta": (lambda: x.to("meta"), "has no memory"),
        "fake": (fake, "FakeTensor"),
        "freed": (freed, "freed or made smaller"),
        "shorter": (shorter, "freed or made smaller"),
        "quantized": (lambda: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), r"x.int_repr\(\)"),
        "nested": (lambda: torch.nested.nested_tensor([x, x]), "nested tensor"),
        "jagged": (lambda: torch.nested.nested_tensor([x, x], layout=torch.jagged), "NestedTensor"),
        "uninitialised": (lambda: torch.nn.UninitializedParameter(), "requires a gradient|uninitialized"),
        "double": (lambda: x.double(), r"x.to\(torch.float32\)"),
        "rank 0": (lambda: torch.tensor(3.0), "has rank 0"),
        "half": (lambda: x.half(), "holds f16"),
    }


TORCH_NAMES = (
    "plain", "strided", "expanded", "shared with numpy", "subclass", "buffer", "frozen parameter", "real part",
    "unfolded", "dlpack", "resolved", "parameter", "in a graph", "negated", "conjugated", "sparse", "compressed",
    "mkldnn", "meta", "fake",
    "freed", "shorter", "quantized", "nested", "jagged", "uninitialised", "double", "rank 0", "half",
)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TORCH_NAMES)
def test_torch_inputs(torch: Any, name: str, engine: str) -> None:
    make, refusal = torch_inputs(torch)[name]
    x, y = make(), torch.zeros(N)
    if refusal is not None:
        with pytest.raises(tl.UserError, match=refusal):
            double.on(engine)(x, y)
        assert not y.any()
        return
    double.on(engine)(x, y)
    plain = torch.from_dlpack(x) if name == "dlpack" else x
    assert torch.equal(y, plain.detach().as_subclass(torch.Tensor) * 2)
    if engine != "python":
        assert torch.equal(torch.as_tensor(twice.on(engine)(x)), y)


def test_every_torch_input_is_tried(torch: Any) -> None:
    assert set(TORCH_NAMES) == set(torch_inputs(torch))


@pytest.mark.parametrize("engine", ENGINES)
def test_torch_outputs(torch: Any, engine: str) -> None:
    x = torch.from_numpy(numbers())
    run = double.on(engine)
    for y in (torch.zeros(N), torch.zeros(N, 3)[:, 1], torch.zeros(N).as_subclass(type("T", (torch.Tensor,), {}))):
        run(x, y)
        assert torch.equal(y.as_subclass(torch.Tensor), x * 2)
    for y in (torch.zeros(1).expand(N), torch.zeros(N + 3).unfold(0, N, 1)):
        with pytest.raises(tl.UserError, match=r"one in memory|rank 2"):
            run(x, y)
    weight = torch.nn.Parameter(torch.zeros(N))
    with pytest.raises(tl.UserError, match="requires a gradient"):
        run(x, weight)
    with torch.no_grad():
        run(x, weight)
        assert torch.equal(weight, x * 2)
        run(weight, y := torch.zeros(N))
        assert torch.equal(y, x * 4)
    with torch.inference_mode():
        run(torch.ones(N), y := torch.zeros(N))
        assert bool((y == 2).all())


def test_torch_overlapping_windows(torch: Any) -> None:
    @tl.jit
    def fill(y: tl.f32["M", "N"]):
        tl.grid(1)
        tl.store(y, (0, 0), tl.ones((4, 8), tl.f32))

    fill(torch.zeros(4, 8))
    for y in (torch.zeros(20).unfold(0, 8, 1), torch.zeros(1, 8).expand(4, 8),
              torch.zeros(8).as_strided((4, 8), (0, 1))):
        with pytest.raises(tl.UserError, match="some of its elements are one in memory"):
            fill(y)
    fill(torch.zeros(64).unfold(0, 8, 8))


@pytest.mark.parametrize("engine", ENGINES)
def test_autograd(torch: Any, engine: str) -> None:
    run = double.on(engine)

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Any) -> Any:
            y = torch.empty_like(a)
            run(a, y)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            y = torch.empty_like(g)
            run(g.contiguous(), y)
            return y

    a = torch.ones(N, requires_grad=True)
    Twice.apply(a).sum().backward()
    assert bool((a.grad == 2).all())

    a = torch.ones(N, requires_grad=True)
    b = a * 1.0
    total = (b * b).sum()
    run(torch.ones(N), b.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


@pytest.mark.parametrize("transform", ["vmap", "grad", "jvp"])
def test_torch_transforms(torch: Any, transform: str) -> None:
    def f(a: Any) -> Any:
        y = torch.zeros(N)
        double(a, y)
        return y.sum()

    calls = {"vmap": lambda: torch.func.vmap(f)(torch.ones(3, N)),
             "grad": lambda: torch.func.grad(f)(torch.ones(N)),
             "jvp": lambda: torch.func.jvp(f, (torch.ones(N),), (torch.ones(N),))}
    with pytest.raises(tl.UserError, match=r"torch\.func transform"):
        calls[transform]()


@pytest.mark.parametrize("engine", ENGINES)
def test_torch_scalars(torch: Any, engine: str) -> None:
    @tl.jit
    def scalars(y: tl.f64["N"], a: tl.f32, b: tl.i16, c: tl.bool, d: tl.bf16):
        tl.grid(1)
        y[0] = a.to(tl.f64)
        y[1] = b.to(tl.f64)
        y[2] = c.to(tl.f64)
        y[3] = d.to(tl.f64)

    y = np.zeros(4)
    run = scalars.on(engine)
    run(y, torch.tensor(0.1), torch.tensor(-7, dtype=torch.uint8).neg().to(torch.int64) * 0 - 7, torch.tensor(True),
        torch.tensor(0.1, dtype=torch.bfloat16, requires_grad=True))
    assert y.tolist() == [float(np.float32(0.1)), -7, 1, float(ml_dtypes.bfloat16(0.1))]
    run(y, torch.tensor(3), 1, False, torch.tensor(1e39, dtype=torch.float64))
    assert y.tolist() == [3, 1, 0, float("inf")]
    for bad in ((torch.tensor([0.1]), 1, True, 1.0), (0.1, torch.tensor(1.0), True, 1.0),
                (0.1, 1, torch.tensor(1), 1.0),
                (torch.tensor(1.0, device="meta"), 1, True, 1.0), (0.1, torch.tensor(70000), True, 1.0),
                (torch.tensor(True), 1, True, 1.0), (torch.tensor(1j), 1, True, 1.0)):
        with pytest.raises(tl.UserError, match="E0601"):
            run(y, *bad)


@pytest.mark.parametrize("engine", ENGINES)
def test_gpu_arrays_on_engines_of_the_host(engine: str) -> None:
    x, y = CudaInterface(), CudaInterface(data=(0xDEAD8000, False))
    with pytest.raises(tl.UserError, match="cannot run on GPU arrays"):
        double.on(engine)(x, y)
    with pytest.raises(tl.UserError, match=r"written and overlaps|cannot run on GPU arrays"):
        double.on(engine)(x, x)
