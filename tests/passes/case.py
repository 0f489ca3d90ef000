"""Text tests of passes: a file has what it shows as a comment, a module, and what the pass makes of it.

``NAME/idea.tile`` tests the pass ``NAME``. Below the module stands one of

* ``// ---- becomes`` and the module after the pass,
* ``// ---- becomes, simplified`` and the module after the pass and ``simplify``: for passes that leave constants behind
  for it, in the way of who reads the text,
* ``// ---- stays``: the pass changes nothing,
* ``// ---- fails`` and the message.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from tilus.cli.opt import run_pass
from tilus.diagnostics import TilusError
from tilus.ir.parser import parse_module
from tilus.ir.printer import print_module
from tilus.ir.verifier import verify_module
from tilus.lowering.simplify import simplify

FOLDER = Path(__file__).parent
UPDATE = "pytest tests/passes --update"
SIMPLIFIED = "becomes, simplified"
_RESULT = re.compile(r"^// ---- (becomes|becomes, simplified|stays|fails)\n", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """``text`` is the module afterwards where ``word`` is ``becomes``, the message where it is ``fails``."""

    word: str
    text: str = ""

    def __str__(self) -> str:
        return f"// ---- {self.word}\n{self.text}"


@dataclass(frozen=True)
class Case:
    """A file: its pass, the comment and module above the result, and the result, None where none is there yet."""

    path: Path
    source: str
    expected: Result | None

    @property
    def name(self) -> str:
        return self.path.parent.name

    def run(self) -> Result:
        """What the pass makes of the module, which is verified before and after."""
        place = f"{self.name}/{self.path.name}"
        module = parse_module(self.source, place)
        verify_module(module)
        before = print_module(module)
        try:
            module = run_pass(self.name, module)
        except TilusError as error:
            return Result("fails", f"{error}\n")
        verify_module(module, self.name)
        if print_module(module) == before:
            return Result("stays")
        word = "becomes"
        if self.expected is not None and self.expected.word == SIMPLIFIED:
            word = SIMPLIFIED
            simplify(module)
        return Result(word, print_module(module))

    def difference(self, result: Result) -> str:
        """A unified diff from what is expected to ``result``; empty where they agree."""
        lines = (str(self.expected or "").splitlines(), str(result).splitlines())
        place = f"{self.name}/{self.path.name}"
        return "\n".join(difflib.unified_diff(*lines, f"{place} (expected)", f"{place} (the pass)", lineterm="", n=4))

    def write(self, result: Result) -> None:
        self.path.write_text(f"{self.source.rstrip()}\n\n{result}", encoding="utf-8")


def read(path: Path) -> Case:
    text = path.read_text(encoding="utf-8")
    found = _RESULT.search(text)
    if found is None:
        return Case(path, text, None)
    return Case(path, text[: found.start()], Result(found[1], text[found.end() :]))


def files() -> list[Path]:
    return sorted(FOLDER.glob("*/*.tile"))
