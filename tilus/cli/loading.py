"""Finds kernels in the user's files, and reads what options say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tilus.diagnostics import UserError


def load_file(path: Path) -> ModuleType:
    """Import a Python file, with its own directory and that of the package it belongs to on the path.

    Raises:
        UserError: E0804, it is not there. Errors of the file itself are passed on.
    """
    path = path.resolve()
    if not path.is_file():
        raise UserError.at("E0804", f"there is no file {str(path)!r}")
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    for directory in (str(path.parent), str(root)):
        if directory not in sys.path:
            sys.path.insert(0, directory)
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError.at("E0804", f"{str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find_kernel(text: str) -> Any:
    """The kernel of ``FILE`` or ``FILE:KERNEL``. Raises UserError (E0804) where there is none, or more than one."""
    from tilus.runtime.traced import TracedFunction

    file, _, name = text.partition(":") if not Path(text).is_file() else (text, "", "")
    module = load_file(Path(file))
    kernels = {k: v for k, v in vars(module).items()
               if isinstance(v, TracedFunction) and v.function.__module__ == module.__name__}
    if name:
        if name not in kernels:
            raise UserError.at("E0804", f"{file} has no kernel {name!r}",
                               help=f"kernels: {', '.join(kernels) or 'none'}")
        return kernels[name]
    if len(kernels) != 1:
        raise UserError.at("E0804", f"{file} has {len(kernels)} kernels", help="name one: FILE:KERNEL"
                           + (f", with {', '.join(kernels)}" if kernels else ""))
    return next(iter(kernels.values()))


def parse_settings(items: tuple[str, ...]) -> dict[str, Any]:
    """``K=V`` pairs: Python literals, element types (``f16``) and layout expressions. Raises UserError (E0804)."""
    import ast

    from tilus.ir.dtypes import parse_dtype

    settings: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            raise UserError.at("E0804", f"--set takes NAME=VALUE, not {item!r}")
        try:
            settings[name] = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
            continue
        except (ValueError, SyntaxError):
            pass
        try:
            settings[name] = parse_dtype(text)
        except ValueError:
            from tilus.layouts import parse_layout

            try:
                settings[name] = parse_layout(text)
            except UserError as error:
                raise UserError.at("E0804", f"--set {item}: {text!r} is no number, element type or layout",
                                   help="quote a string twice: --set mode=\"'fast'\"") from error
    return settings


def parse_extents(text: str) -> tuple[int, ...]:
    """``4,2`` or ``4x2``. Raises click.BadParameter."""
    import click

    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r}: write extents as 4,2 or 4x2") from None
