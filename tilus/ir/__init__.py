"""The intermediate representation: types, values, operations, text form and verifier."""

from tilus.ir import ops, printer
from tilus.ir.builder import Builder
from tilus.ir.core import Block, Effect, Function, Module, Operation, Parameter, Value
from tilus.ir.dtypes import DType
from tilus.ir.types import PointerType, TileType, Type, ViewType

__all__ = [
    "Block", "Builder", "DType", "Effect", "Function", "Module", "Operation", "Parameter", "PointerType", "TileType",
    "Type", "Value", "ViewType", "ops", "printer",
]
