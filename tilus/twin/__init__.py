"""A twin of Ascend NPUs: compiles Ascend C kernels for this machine, runs them on modelled cores, and checks them."""

from tilus.twin.chips import CHIPS, Chip
from tilus.twin.compiler import CompilerError
from tilus.twin.program import Program, build
from tilus.twin.report import Finding, Report, TwinError

__all__ = ["CHIPS", "Chip", "CompilerError", "Finding", "Program", "Report", "TwinError", "build"]
