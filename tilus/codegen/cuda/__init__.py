"""CUDA C from thread-level modules."""

from tilus.codegen.cuda.emitter import emit_cuda

__all__ = ["emit_cuda"]
