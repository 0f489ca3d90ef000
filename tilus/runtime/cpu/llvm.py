"""LLVM for the host: text to machine code, and machine code to functions."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

from tilus.codegen.background import interruptible
from tilus.lowering.cpu.values import Machine

_GOT_FLAG = '!llvm.module.flags = !{!0}\n!0 = !{i32 7, !"RtLibUseGOT", i32 1}\n'
_lock = threading.Lock()


@functools.cache
def _binding() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # for the inline assembly of the pool
    return llvm


LEVELS: dict[str, tuple[str, ...]] = {
    "sse4": ("avx", "fma", "f16c", "vaes", "vpclmulqdq", "xop", "amx"),
    "avx2": ("avx512", "avx10", "avxvnni", "amx"),
    "avxvnni": ("avx512", "avx10", "amx"),
    "avx512": ("avx512vnni", "avxvnni", "avx10", "amx"),
    "avx512vnni": ("avx10", "amx"),
}
"""What ``TILUS_CPU`` may be: by how the features begin that are not used then, even where the processor has them."""


@functools.cache
def host_features() -> dict[str, bool]:
    """The processor's features, those that are not to be used as off. Raises ValueError where ``TILUS_CPU`` is none of
    :data:`LEVELS`."""
    features = dict(_binding().get_host_cpu_features())
    level = os.environ.get("TILUS_CPU", "")
    if not level:
        return features
    if level not in LEVELS:
        raise ValueError(f"TILUS_CPU is {level!r}: set it to one of {', '.join(LEVELS)}, or to nothing for all that "
                         "the processor has")
    return {name: on and not name.startswith(LEVELS[level]) for name, on in features.items()}


@functools.cache
def host_description() -> str:
    """What machine code depends on besides the kernel: LLVM's version, the processor and its features."""
    llvm = _binding()
    features = ",".join(k for k, v in sorted(host_features().items()) if v)
    return f"llvm {llvm.llvm_version_info} {llvm.get_host_cpu_name()} {features}"


@functools.cache
def machine() -> Machine:
    """The host's vector registers and caches."""
    features = host_features()
    if features.get("avx512f") and features.get("avx512vl") and features.get("avx512bw"):
        bytes_ = "vpdpbusd" if features.get("avx512vnni") else "pmaddubsw"
        return Machine(vector_bytes=64, registers=32, table=16, byte_products=bytes_)
    if features.get("avx2"):
        bytes_ = "vpdpbusd" if features.get("avxvnni") else "pmaddubsw"
        return Machine(vector_bytes=32, registers=16, table=8, byte_products=bytes_)
    return Machine(vector_bytes=16, registers=32 if features.get("neon") else 16)


@functools.cache
def _target_machine() -> Any:
    llvm = _binding()
    target = llvm.Target.from_default_triple()
    features = host_features()
    text = ",".join(("+" if on else "-") + name for name, on in sorted(features.items()))
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=text, opt=3, reloc="pic",
                                        codemodel="default")


def optimise(text: str) -> Any:
    """Parse a module and run the short list of passes that the emitted code profits from.

    Functions of the process are called through a table of addresses among the module's own data: they may lie further
    away than a call reaches, and :class:`LoadedObject` reserves room for that table, not for stubs of a linker.
    """
    llvm = _binding()
    module = llvm.parse_assembly(text + _GOT_FLAG)
    for function in module.functions:
        if function.is_declaration and not function.name.startswith("llvm."):
            function.add_function_attribute("nonlazybind")
    module.triple = llvm.get_default_triple()
    machine = _target_machine()
    module.data_layout = str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    manager = llvm.create_new_function_pass_manager()
    manager.add_sroa_pass()
    manager.add_instruction_combine_pass()
    manager.add_simplify_cfg_pass()
    for function in module.functions:
        if not function.is_declaration:
            manager.run(function, builder)
    return module


@contextlib.contextmanager
def _plain_addresses() -> Iterator[None]:
    """Addresses as they are emitted, which suit the processor's ways of addressing: to look for cheaper ones takes LLVM
    a third of its time. What else uses LLVM in this process does not notice."""
    llvm = _binding()
    llvm.set_option("tilus", "-disable-lsr=true")
    try:
        yield
    finally:
        llvm.set_option("tilus", "-disable-lsr=false")


def compile_object(text: str) -> bytes:
    """Machine code of an LLVM module: a relocatable object in the host's format."""

    def compile() -> bytes:
        with _lock, _plain_addresses():
            return bytes(_target_machine().emit_object(optimise(text)))

    return interruptible(compile)


def assembly(text: str) -> str:
    """The same as text."""
    with _lock, _plain_addresses():
        return str(_target_machine().emit_assembly(optimise(text)))


class LoadedObject:
    """An object file in memory, linked against this process."""

    def __init__(self, data: bytes) -> None:
        llvm = _binding()
        with _lock:
            empty = llvm.parse_assembly("")
            # Code, constants and tables in one piece of memory: relative addresses between pieces that lie more than
            # 2 GB apart end the process.
            self.engine = llvm.create_mcjit_compiler(empty, _new_target_machine(), use_lmm=True)
            self.engine.add_object_file(llvm.ObjectFileRef.from_data(data))
            self.engine.finalize_object()

    def address(self, name: str) -> int:
        return int(self.engine.get_function_address(name))


def _new_target_machine() -> Any:
    """The execution engine takes ownership of its target machine."""
    llvm = _binding()
    return llvm.Target.from_default_triple().create_target_machine(reloc="pic", codemodel="default")


def function(address: int, result: Any, *arguments: Any) -> Any:
    """A C function at ``address``; Python's lock is released while it runs."""
    return ctypes.CFUNCTYPE(result, *arguments)(address)
