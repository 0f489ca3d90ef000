"""The model of this machine's cores, for tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tilus.diagnostics import UserError
from tilus.model.cpu.call import estimate, estimate_module
from tilus.model.cpu.machine import Host, host
from tilus.model.cpu.predict import Estimate
from tilus.model.prediction import CompiledCall, Prediction
from tilus.runtime.engines import Engine
from tilus.targets import Target


class CpuPredictor:
    """It lowers each variant, which takes some milliseconds, and follows what comes out."""

    def supports(self, target: Target) -> bool:
        return True

    def before_compiling(self, function: Any, engine: Engine, args: tuple[Any, ...], kwargs: Mapping[str, Any],
                         variants: Sequence[Mapping[str, Any]]) -> Iterator[Prediction | None]:
        machine = host()  # at once, whenever the first prediction is read
        return (_before(function, engine, args, {**kwargs, **variant}, machine) for variant in variants)

    def compiled(self, call: CompiledCall) -> Prediction | None:
        """What is known before is all that is known."""
        module = call.module
        assert module.launch is not None
        own = replace(module, kernels=[kernel.clone() for kernel in module.kernels], launch=module.launch.clone())
        return _prediction(estimate_module(own, call.arguments, host()))


def _before(function: Any, engine: Engine, args: tuple[Any, ...], kwargs: Mapping[str, Any],
            machine: Host) -> Prediction | None:
    try:
        return _prediction(estimate(function.kernel.prepared(engine.name, args, kwargs), machine))
    except UserError:
        return None


def _prediction(found: Estimate) -> Prediction:
    return Prediction(found.seconds, found.bottleneck)


PREDICTOR = CpuPredictor()

__all__ = ["PREDICTOR", "CpuPredictor"]
