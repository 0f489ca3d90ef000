"""From the tile level to the thread level of a CPU core: loops over SIMD vectors.

A tile is a lazy expression until something asks for its elements: elementwise chains run as one loop from their loads
to the store or reduction that ends them. What is used more than once and costs more than a load, what a loop carries
and what is rearranged lives in a buffer of the frame, a piece of memory that belongs to the executing core.
"""

from tilus.lowering.cpu.function import CpuProgram, PrintDescription, lower_module
from tilus.lowering.cpu.sync import Wait

__all__ = ["CpuProgram", "PrintDescription", "Wait", "lower_module"]
