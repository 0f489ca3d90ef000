"""Which functions of a module may call themselves, and which are called through a register."""

from __future__ import annotations

from tilus.simulator.syntax import Group, Instruction, Module, Name, Operand, Scope, Statement, Variable


def addressed_functions(module: Module) -> set[str]:
    """Names whose address the module takes: calls through a register reach these."""
    operands = [value for variable in module.variables.values() for value in variable.values]
    for function in module.functions.values():
        operands += _operands_of(function.body or [])
    return {item.text for item in operands if isinstance(item, Name)} & set(module.functions)


def recursive_functions(module: Module) -> set[str]:
    """Functions on a cycle of the call graph; a call through a register may reach all whose address is taken."""
    addressed = addressed_functions(module)
    calls = {name: _callees(function.body or [], module, addressed) for name, function in module.functions.items()}
    return {name for name in calls if name in _reached(calls, name)}


def _reached(calls: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    work = [start]
    while work:
        for callee in calls[work.pop()] - seen:
            seen.add(callee)
            work.append(callee)
    return seen


def _callees(body: list[Statement], module: Module, addressed: set[str]) -> set[str]:
    result: set[str] = set()
    for statement in body:
        if isinstance(statement, Scope):
            result |= _callees(statement.body, module, addressed)
        elif isinstance(statement, Instruction) and statement.family == "call":
            target = next((item for item in statement.operands if not isinstance(item, Group)), None)
            if isinstance(target, Name):
                name = module.aliases.get(target.text, target.text)
                known = name in module.functions
                result |= {name} if known else addressed if target.text.startswith("%") else set()
    return result


def _operands_of(body: list[Statement]) -> list[Operand]:
    """Operands of all instructions but calls, and values of variables."""
    result: list[Operand] = []
    for statement in body:
        if isinstance(statement, Instruction) and statement.family != "call":
            result += statement.operands
        elif isinstance(statement, Variable):
            result += statement.values
        elif isinstance(statement, Scope):
            result += _operands_of(statement.body)
    return result
