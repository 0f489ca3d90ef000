"""The CPU engine: compilation for the host, the pool of threads, and calls."""

from tilus.runtime.cpu.kernel import CpuKernel, compile_module
from tilus.runtime.threads import get_num_threads, set_num_threads

__all__ = ["CpuKernel", "compile_module", "get_num_threads", "set_num_threads"]
