"""Source lines of instructions, as the metadata from which LLVM makes ``.loc``."""

from __future__ import annotations

from tilus.codegen.file_names import file_name
from tilus.codegen.llvm.text import ModuleText, quoted
from tilus.diagnostics import Span


class DebugLines:
    """Gives the instructions of a module their places. What helpers inlined is, in the helper's file, a line of the
    kernel: calls are not told apart."""

    def __init__(self, module: ModuleText) -> None:
        self.module = module
        self.unit = ""
        self.scope = ""
        self.file = ""
        self._places: dict[tuple[str, int, int], str] = {}

    def enter(self, name: str, span: Span) -> str:
        """Begin a function; gives what its definition carries."""
        node = self.module.node
        self.file, file = span.file, self._file(span.file)
        if not self.unit:
            self.unit = self.module.distinct_node(
                f'!DICompileUnit(language: DW_LANG_C, file: {file}, producer: "tilus", '
                "emissionKind: DebugDirectivesOnly)")
        self.scope = self.module.distinct_node(
            f"!DISubprogram(name: {quoted(name.encode())}, scope: {file}, file: {file}, line: {span.line}, "
            f"type: {node('!DISubroutineType(types: !{})')}, spFlags: DISPFlagDefinition, unit: {self.unit})")
        self._places.clear()
        return f" !dbg {self.scope}"

    def scopes(self) -> tuple[str, str]:
        """The function that is being emitted, for :meth:`leave` after another one."""
        return self.scope, self.file

    def leave(self, outer: tuple[str, str]) -> None:
        """Go on with an earlier function."""
        self.scope, self.file = outer
        self._places.clear()

    def at(self, span: Span) -> str:
        """What an instruction that belongs to a place carries; nothing where the place is not known."""
        if not span.known:
            return ""
        key = (span.file, span.line, span.column)
        found = self._places.get(key)
        if found is None:
            found = self._places[key] = f", !dbg {self._place(span)}"
        return found

    def _place(self, span: Span) -> str:
        scope = self.scope
        if span.file != self.file:
            file = self._file(span.file)
            scope = self.module.node(f"!DILexicalBlockFile(scope: {scope}, file: {file}, discriminator: 0)")
        return self.module.node(f"!DILocation(line: {span.line}, column: {span.column + 1}, scope: {scope})")

    def _file(self, path: str) -> str:
        return self.module.node(f'!DIFile(filename: {quoted(file_name(path).encode())}, directory: "")')

    def named(self) -> list[str]:
        """The named metadata by which LLVM finds it all."""
        version = self.module.node('!{i32 2, !"Debug Info Version", i32 3}')
        return [f"!llvm.dbg.cu = !{{{self.unit}}}", f"!llvm.module.flags = !{{{version}}}"]
