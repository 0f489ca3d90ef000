"""LLVM text to machine code, and machine code of this machine to functions."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tilus.codegen.background import interruptible
from tilus.runtime.cpu.processor import Processor, binding, host, target_machine

if TYPE_CHECKING:
    from tilus.lowering.cpu.values import Machine

_GOT_FLAG = '!llvm.module.flags = !{!0}\n!0 = !{i32 7, !"RtLibUseGOT", i32 1}\n'
_lock = threading.Lock()
RECENT = 64
"""Of so many objects it is remembered what they were compiled from."""
_recent: OrderedDict[tuple[bytes, Processor, bool, int], bytes] = OrderedDict()


def host_description() -> str:
    """What machine code depends on besides the kernel: LLVM's version, the processor and its features."""
    return host().description


def machine() -> Machine:
    """The host's vector registers and caches."""
    return host().machine


@functools.cache
def _target_machine(processor: Processor, level: int = 3) -> Any:
    return target_machine(processor, level)


def optimise(text: str, processor: Processor | None = None, *, linked: bool = False) -> Any:
    """Parse a module and run the short list of passes that the emitted code profits from.

    Functions of the process are called through a table of addresses among the module's own data: they may lie further
    away than a call reaches, and :class:`LoadedObject` reserves room for that table, not for stubs of a linker. Where
    the code is to be ``linked`` by a linker, that sees to it.
    """
    llvm = binding()
    module = llvm.parse_assembly(text if linked else text + _GOT_FLAG)
    if not linked:
        for function in module.functions:
            if function.is_declaration and not function.name.startswith("llvm."):
                function.add_function_attribute("nonlazybind")
    processor = processor or host()
    module.triple = processor.triple
    machine = _target_machine(processor)
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
    llvm = binding()
    llvm.set_option("tilus", "-disable-lsr=true")
    try:
        yield
    finally:
        llvm.set_option("tilus", "-disable-lsr=false")


def compile_object(text: str, processor: Processor | None = None, *, linked: bool = False, level: int = 3) -> bytes:
    """Machine code of an LLVM module: a relocatable object in the format of the processor's system, by default this
    machine; ``linked`` for linkers rather than for :class:`LoadedObject`. At ``level`` 0 LLVM takes a fifth of the time
    to write code that is not as good. Kernels are specialised on more than their code depends on: what is compiled from
    the same text is the same object."""
    chosen = processor or host()
    key = hashlib.sha256(text.encode()).digest(), chosen, linked, level

    def compile() -> bytes:
        with _lock:
            found = _recent.pop(key, None)
            if found is None:
                with _plain_addresses():
                    module = optimise(text, chosen, linked=linked)
                    found = bytes(_target_machine(chosen, level).emit_object(module))
            _recent[key] = found
            if len(_recent) > RECENT:
                _recent.popitem(last=False)
            return found

    return interruptible(compile)


def assembly(text: str, processor: Processor | None = None) -> str:
    """The same as text."""
    with _lock, _plain_addresses():
        return str(_target_machine(processor or host()).emit_assembly(optimise(text, processor)))


class LoadedObject:
    """An object file in memory, linked against this process."""

    def __init__(self, data: bytes) -> None:
        llvm = binding()
        with _lock:
            empty = llvm.parse_assembly("")
            # Code, constants and tables in one piece of memory: relative addresses between pieces that lie more than
            # 2 GB apart end the process.
            self.engine = llvm.create_mcjit_compiler(empty, _new_target_machine(), use_lmm=True)
            self.engine.remove_module(empty)  # or it would set up a compiler for it
            self.engine.add_object_file(llvm.ObjectFileRef.from_data(data))
            self.engine.finalize_object()

    def address(self, name: str) -> int:
        return int(self.engine.get_function_address(name))

    def data_address(self, name: str) -> int:
        return int(self.engine.get_global_value_address(name))


def loaded(text: str, symbols: Mapping[str, int] | None = None) -> LoadedObject:
    """The functions of a module of the runtime's own, from the disk cache where they have been compiled before.
    ``symbols`` are the addresses of those that it calls and that are not the system's. It has no loops over data: code
    that takes LLVM little time costs a call 20 ns, and the first call of a process 40 ms less."""
    from tilus.runtime.cache import default_cache, key_of

    for name, address in (symbols or {}).items():
        binding().add_symbol(name, address)
    key = key_of(["runtime", text, host_description()])
    entry = default_cache().get_or_build(key, lambda: ({"object": compile_object(text, level=0)}, {}))
    return LoadedObject(entry["object"])


def _new_target_machine() -> Any:
    """The execution engine takes ownership of its target machine."""
    llvm = binding()
    return llvm.Target.from_default_triple().create_target_machine(reloc="pic", codemodel="default")


def function_address(function: Any) -> int:
    """The address of a function that ctypes knows."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def function(address: int, result: Any, *arguments: Any) -> Any:
    """A C function at ``address``; Python's lock is released while it runs."""
    return ctypes.CFUNCTYPE(result, *arguments)(address)
