"""A simulator of PTX: parses, runs and checks GPU kernels on any machine."""

from tilus.simulator.arguments import Pointer, Struct
from tilus.simulator.faults import Checks, Fault
from tilus.simulator.launch import MAX_STEPS, Module, launch, load
from tilus.simulator.report import Report
from tilus.simulator.tensor_map import Im2colMap, TensorMap
from tilus.simulator.texture import Texture

__all__ = [
    "MAX_STEPS",
    "Checks",
    "Fault",
    "Im2colMap",
    "Module",
    "Pointer",
    "Report",
    "Struct",
    "TensorMap",
    "Texture",
    "launch",
    "load",
]
