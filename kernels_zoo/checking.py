"""What the kernels of the zoo share: a case to check them on, and how far a result is from its reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tilus as tl

if TYPE_CHECKING:  # compiling a kernel takes no NumPy, and is quicker without
    import numpy as np

    Array = np.ndarray[Any, Any]
else:
    Array = Any
TOLERANCES = {"f32": 1e-6, "f64": 1e-12, "f16": 2e-3, "bf16": 1e-2}


@dataclass
class Case:
    """One call of a kernel, with what it should give.

    Attributes:
        arguments: positional arguments; ``outputs`` are those among them that the kernel writes (of a fused function,
            those that it is given beside them).
        references: what each output should be, in f64.
        constants: keyword arguments.
        depth: the length of the longest sum behind an element, which widens the tolerance of f32.
    """

    arguments: Sequence[Any]
    outputs: Sequence[Array]
    references: Sequence[Array]
    constants: dict[str, Any] = field(default_factory=dict)
    depth: int = 1

    @property
    def tolerance(self) -> float:
        """For the worst of the outputs' element types: ‖out − ref‖ / ‖ref‖."""
        import numpy as np

        names = {tl.from_numpy(a.dtype).name for a in self.arguments if isinstance(a, np.ndarray)}
        worst = max(TOLERANCES.get(name, 0.0) for name in names)
        return worst * max(1.0, (self.depth / 1024) ** 0.5) if worst == TOLERANCES["f32"] else worst


def relative_error(out: Array, reference: Array) -> float:
    """‖out − ref‖ / ‖ref‖ over finite references; infinite where an infinity or NaN is not in its place."""
    import numpy as np

    wide, exact = out.astype(np.float64), np.asarray(reference, np.float64)
    finite = np.isfinite(exact)
    if not np.array_equal(wide[~finite], exact[~finite], equal_nan=True) or not np.isfinite(wide[finite]).all():
        return float("inf")
    distance = float(np.linalg.norm(wide[finite] - exact[finite]))
    return distance / max(float(np.linalg.norm(exact[finite])), 1e-30) if distance else 0.0


def run(kernel: tl.JitFunction | tl.FusedFunction, case: Case, engine: str | None = None, **constants: Any) -> float:
    """Call the kernel; the greatest relative error of its outputs. A fused function is given them as ``out``."""
    call = kernel if engine is None else kernel.on(engine)
    if isinstance(kernel, tl.FusedFunction):
        constants["out"] = case.outputs[0] if len(case.outputs) == 1 else tuple(case.outputs)
    call(*case.arguments, **{**case.constants, **constants})
    return max(relative_error(o, r) for o, r in zip(case.outputs, case.references, strict=True))


def report(kernel: tl.JitFunction | tl.FusedFunction, shapes: Iterable[tuple[int, ...]], make: Callable[..., Case],
           **constants: Any) -> None:
    """Run the kernel on every shape, print the errors, and exit with 1 where one is beyond its tolerance."""
    wrong = 0
    for shape in shapes:
        case = make(shape)
        error = run(kernel, case, **constants)
        wrong += error > case.tolerance
        verdict = "ok" if error <= case.tolerance else "WRONG"
        print(f"{kernel.__name__} {'×'.join(map(str, shape))}: relative error {error:.1e} ({verdict})")
    if wrong:
        raise SystemExit(1)


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: tl.DType) -> Array:
    """Normal random numbers."""
    return rng.standard_normal(shape).astype(dtype.numpy)


def empty(shape: tuple[int, ...], dtype: tl.DType) -> Array:
    """An output, filled with NaN so that what is not written shows."""
    import numpy as np

    return np.full(shape, np.nan, dtype.numpy)


def one_tile(extent: int) -> dict[str, Any]:
    """Constants of a row-wise kernel whose rows of this length fit a tile."""
    return {"BN": 1 << max(0, extent - 1).bit_length(), "fits": True}


def wide(array: Array) -> Array:
    import numpy as np

    return array.astype(np.float64)
