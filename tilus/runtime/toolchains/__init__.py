"""NVIDIA's compilers out of their wheels: ``ptxas``, ``nvrtc``, ``nvcc`` and ``binutils``, imported when needed."""

from tilus.runtime.toolchains.result import CubinResult, FunctionUsage

__all__ = ["CubinResult", "FunctionUsage"]
