"""The kernels that a call launches, without memory for its arrays."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.gemm.batched_matmul import batched_matmul
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.gemm.matmul_split_k import matmul_split_k
from tilus.model.launch import launches_of, parameter_bytes
from tilus.runtime.cubin import read_cubin


def test_a_product_is_launched_in_groups_of_columns() -> None:
    compiled = matmul.compile("sm_80")
    (_, launch), = launches_of(compiled, {"a": (4096, 1024), "b": (1024, 4096), "c": (4096, 4096)})
    x, y, z = launch.grid
    assert (x * z, y, launch.block) == (32, 32, (128, 1, 1))
    assert launch.shared == compiled.metadata["shared_bytes"]
    assert [(a.name, a.bytes, a.element_bits) for a in launch.arrays] == [
        ("a", 4096 * 1024 * 2, 16), ("b", 4096 * 1024 * 2, 16), ("c", 4096 * 4096 * 2, 16)]
    assert all(a.address % 256 == 0 for a in launch.arrays)
    first = int.from_bytes(launch.parameters[:8], "little")
    assert first == launch.arrays[0].address


def test_parameters_lie_where_the_cubin_says() -> None:
    compiled = matmul_split_k.compile("sm_90a")
    (code, launch), = launches_of(compiled, {"a": (64, 512), "b": (512, 64), "c": (64, 64), "splits": 4})
    places = read_cubin(code.cubin).kernels[launch.program].parameters
    assert len(launch.parameters) == places[-1].offset + places[-1].size
    assert [a.name for a in launch.arrays] == ["a", "b", "c", "workspace 0", "workspace 1"]
    assert launch.grid[2] == 4


def test_a_grid_that_is_too_long_takes_another_cubin() -> None:
    compiled = batched_matmul.compile("sm_80")
    shapes = {"a": (70_000, 64, 64), "b": (70_000, 64, 64), "c": (70_000, 64, 64)}
    (code, launch), = launches_of(compiled, shapes)
    assert code is not compiled
    assert launch.grid == (70_000, 1, 1)


def test_all_kernels_of_a_fused_function() -> None:
    @tl.fuse
    def total(x: tl.f32["N"]):
        return (x * x).sum()

    launches = launches_of(total.compile("sm_80"), {"x": (1 << 24,), "out": (1,)})
    assert [launch.program for _, launch in launches] == ["total_0", "total_1"]
    first, second = ({a.name: a.address for a in launch.arrays} for _, launch in launches)
    assert set(first) == {"x", "workspace 0"}
    assert first["workspace 0"] == second["workspace 0"]


def test_strides_and_contents() -> None:
    compiled = matmul.compile("sm_80", assume="strided")
    a = np.ones((16, 32), np.float16)
    (_, launch), = launches_of(compiled, {"a": a, "b": ((32, 8), (100, 1)), "c": (16, 8)})
    arrays = {array.name: array for array in launch.arrays}
    assert arrays["b"].bytes == (31 * 100 + 8) * 2
    assert arrays["a"].contents is not None
    assert arrays["a"].contents.tobytes() == a.tobytes()
    assert arrays["b"].contents is None


@pytest.mark.parametrize(("arguments", "message"), [
    ({"a": (4, 4), "b": (4, 4)}, "matmul is not given 'c'"),
    ({"a": (4, 4), "b": (4, 4), "c": (4, 4), "d": 1}, "matmul has no run-time parameter 'd'"),
    ({"a": (4, 4), "b": (4,), "c": (4, 4)}, "'b' has rank 1, but the parameter has rank 2"),
])
def test_wrong_arguments(arguments: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(tl.TilusError, match=message):
        launches_of(matmul.compile("sm_80"), arguments)


def test_parameter_bytes() -> None:
    packed = parameter_bytes([(0, 8), (8, 4), (12, 2), (16, 1)],
                             [(1 << 40, "pointer"), (-2, "i32"), (1.5, "f16"), (7, "u8")])
    assert packed == (1 << 40).to_bytes(8, "little") + b"\xfe\xff\xff\xff" + b"\x00\x3e" + b"\0\0" + b"\x07"
