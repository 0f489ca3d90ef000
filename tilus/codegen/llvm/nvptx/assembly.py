"""LLVM IR to PTX by LLVM's NVPTX back end."""

from __future__ import annotations

import functools
import re
import threading
from typing import Any

from tilus.codegen.background import interruptible
from tilus.codegen.llvm.nvptx.undefined_registers import define_registers
from tilus.diagnostics import InternalError
from tilus.targets import Target

_lock = threading.Lock()
_CALL_NUMBER = re.compile(r" *// callseq \d+(, \d+)?")
"""A remark that counts the calls of all modules."""


def llvm_to_ptx(text: str, target: Target) -> str:
    """Compile a module of LLVM IR. Raises InternalError where LLVM refuses it."""
    return interruptible(lambda: _compile(text, target))


def _compile(text: str, target: Target) -> str:
    import llvmlite.binding as llvm

    machine = _machine(target.name, target.ptx_version)
    with _lock:
        try:
            module = llvm.parse_assembly(text)
        except RuntimeError as error:
            raise InternalError.at("E0999", f"LLVM refuses the generated IR: {error}") from error
        module.data_layout = str(machine.target_data)
        _optimise(module, machine)
        ptx = _CALL_NUMBER.sub("", str(machine.emit_assembly(module)))
    return define_registers(ptx) if " x i8>" in text or " x i16>" in text else ptx


def _optimise(module: Any, machine: Any) -> None:
    """A short list: our passes have done the rest, and ptxas does its own."""
    import llvmlite.binding as llvm

    options = llvm.create_pipeline_tuning_options(speed_level=1)
    builder = llvm.create_pass_builder(machine, options)
    manager = llvm.create_new_module_pass_manager()
    manager.add_sroa_pass()
    manager.add_instruction_combine_pass()
    manager.add_simplify_cfg_pass()
    manager.run(module, builder)


@functools.lru_cache(maxsize=16)
def _machine(name: str, ptx_version: tuple[int, int]) -> Any:
    import llvmlite.binding as llvm

    # Shared memory is addressed by 32 bits: half the registers of what LLVM does on its own.
    llvm.set_option("tilus", "-nvptx-short-ptr")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("nvptx64-nvidia-cuda")
    features = f"+ptx{ptx_version[0]}{ptx_version[1]}"
    return target.create_target_machine(cpu=name, features=features, opt=3, reloc="default", codemodel="default")
