"""Ascend C: what programs of cores are printed as."""

from tilus.codegen.ascendc.emit import emit_kernel, emit_module

__all__ = ["emit_kernel", "emit_module"]
