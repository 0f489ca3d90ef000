"""Random kernels over integers: control flow, containers, aliases, helpers, closures and short circuits, as text.

Every name that an expression reads has a value in Python. Numbers stay small, so that no width matters.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

OUTPUTS = 24
PRELUDE = '''\
import functools
import tilus as tl
LIMIT = 3
TABLE = (2, 5, 7)
class Box:
    def __init__(self, v, w):
        self.v = v
        self.parts = [w, 1]
    def add(self, x):
        self.v = (self.v + x) % 97
        if x > 2:
            self.parts[0] = (self.parts[0] + x) % 97
        return self.v
    def __call__(self, x):
        return self.v if x > 1 else x
def mark(o, k, v):
    o[k] = o[k] * 3 % 97 + v
    return o[k]
def clip(x, low=0, *, high=9):
    if x < low:
        return low
    return high if x > high else x
def put(xs, v):
    xs[0] = v
    return v
def put_if(xs, c, v):
    if c > 2:
        xs[-1] = v
def swap(xs):
    xs[0], xs[1] = xs[1], xs[0]
def count(n):
    k = 0
    for i in range(n):
        if i == 3:
            break
        if i % 2:
            continue
        k += i + 1
    return k
def deco(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return (f(*args, **kwargs) + 1) % 97
    return wrapper
@deco
def twice(x):
    return x * 2 if x > LIMIT else x
def pair(x):
    return [x % 97, 1]
def same(xs):
    return xs
def first_above(xs, x):
    for v in xs:
        if v > x:
            return v
    return x
def total(n):
    return 0 if n == 0 else n + total(n - 1)
inc = functools.partial(clip, low=-3)
'''


@dataclass
class Scope:
    """What may be read: names of integers, lists (with their lengths), dicts, boxes and functions of one argument."""

    ints: list[str]
    lists: dict[str, int] = field(default_factory=dict)
    dicts: list[str] = field(default_factory=list)
    boxes: list[str] = field(default_factory=list)
    bools: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=lambda: ["clip", "twice", "count_of", "inc", "mark_o"])

    def inner(self) -> Scope:
        return Scope(list(self.ints), dict(self.lists), list(self.dicts), list(self.boxes), list(self.bools),
                     list(self.functions))


class Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.fresh = 0
        self.marks = 0

    def program(self) -> str:
        self.lines = []
        scope = Scope(["a", "b"])
        head = ['@tl.jit', 'def kernel(o: tl.i64["N"], n: tl.i32, m: tl.i32, C: int = 2):', "    tl.grid(1)",
                "    a = n.to(tl.i64)", "    b = m.to(tl.i64)",
                "    count_of = lambda x: count(x % 6)", "    mark_o = lambda x: mark(o, 20, x % 7)"]
        self.declare(scope, 1)
        self.block(scope, 1, 3, self.random.randint(4, 9))
        self.finish(scope, 1)
        return PRELUDE + "\n".join(head + self.lines) + "\n"

    # -- text

    def line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def name(self, kind: str) -> str:
        self.fresh += 1
        return f"{kind}{self.fresh}"

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def declare(self, scope: Scope, depth: int) -> None:
        for kind in self.random.sample(["list", "list", "dict", "box", "nested", "int", "alias", "function"], 5):
            getattr(self, f"new_{kind}")(scope, depth)

    # -- declarations

    def new_int(self, scope: Scope, depth: int) -> None:
        name = self.name("x")
        self.line(depth, f"{name} = {self.expression(scope)}")
        scope.ints.append(name)

    def new_list(self, scope: Scope, depth: int) -> None:
        name, size = self.name("xs"), self.random.randint(2, 3)
        if self.chance(0.3):
            self.line(depth, f"{name} = [{self.atom(scope)} + i for i in range({size})]")
        else:
            self.line(depth, f"{name} = [{', '.join(self.expression(scope, 1) for _ in range(size))}]")
        scope.lists[name] = size

    def new_nested(self, scope: Scope, depth: int) -> None:
        if not scope.lists:
            self.new_list(scope, depth)
        inner = self.random.choice(list(scope.lists))
        name = self.name("t")
        shape = self.random.choice([f"[{inner}, [1, 2]]", f"({inner}, {inner})", f"{{0: {inner}, 1: [{inner}]}}"])
        self.line(depth, f"{name} = {shape}")
        scope.lists[f"{name}[0]"] = scope.lists[inner]

    def new_alias(self, scope: Scope, depth: int) -> None:
        names = [n for n in scope.lists if "[" not in n]
        if names:
            name, of = self.name("xs"), self.random.choice(names)
            self.line(depth, f"{name} = {of}")
            scope.lists[name] = scope.lists[of]

    def new_dict(self, scope: Scope, depth: int) -> None:
        name = self.name("d")
        self.line(depth, f"{name} = {{'p': {self.expression(scope, 1)}, 'q': {self.atom(scope)}}}")
        scope.dicts.append(name)

    def new_box(self, scope: Scope, depth: int) -> None:
        name = self.name("box")
        self.line(depth, f"{name} = Box({self.atom(scope)}, {self.atom(scope)})")
        scope.boxes.append(name)
        scope.lists[f"{name}.parts"] = 2

    def new_function(self, scope: Scope, depth: int) -> None:
        name = self.name("f")
        if self.chance(0.4):
            self.line(depth, f"{name} = lambda y, z={self.atom(scope)}: ({self.expression(scope)} + y * z) % 97")
        else:
            self.line(depth, f"def {name}(y):")
            inner = scope.inner()
            if scope.lists and self.chance(0.5):
                self.line(depth + 1, f"{self.random.choice(list(scope.lists))}[0] = y % 97")
            inner.ints = [*inner.ints, "y"]
            inner.functions = []
            local = self.name("x")
            self.line(depth + 1, f"{local} = {self.expression(inner)}")
            inner.ints.append(local)
            if self.chance(0.5):
                self.line(depth + 1, f"if {self.condition(inner)}:")
                self.line(depth + 2, f"return {self.expression(inner)}")
            self.line(depth + 1, f"return {self.expression(inner)}")
        scope.functions.append(name)

    # -- expressions

    def atom(self, scope: Scope) -> str:
        choice = self.random.random()
        if choice < 0.5:
            return self.random.choice(scope.ints)
        if choice < 0.65 and scope.lists:
            name = self.random.choice(list(scope.lists))
            return f"{name}[{self.random.choice([0, -1])}]"
        if choice < 0.75 and scope.dicts:
            return f"{self.random.choice(scope.dicts)}['{self.random.choice('pq')}']"
        if choice < 0.8 and scope.boxes:
            return f"{self.random.choice(scope.boxes)}.v"
        return self.random.choice([str(self.random.randint(0, 5)), "C", "LIMIT", "TABLE[1]"])

    def expression(self, scope: Scope, depth: int = 2) -> str:
        """An integer below 100 or so."""
        if depth == 0:
            return self.atom(scope)
        inner = depth - 1
        kind = self.random.randint(0, 11)
        one = lambda: self.expression(scope, inner)  # noqa: E731
        if kind <= 3:
            return f"({one()} {self.random.choice('+-*')} {one()}) % {self.random.choice([7, 11, 97])}"
        if kind == 4:
            return f"({one()} if {self.condition(scope, inner)} else {one()})"
        if kind == 5 and scope.functions:
            return f"{self.random.choice(scope.functions)}({one()})"
        if kind == 6 and scope.lists:
            name = self.random.choice(list(scope.lists))
            if self.chance(0.4):
                return self.random.choice([
                    f"first_above({name}, {one()})", f"same({name})[0]", f"pair({one()})[0]", f"total(C) + {name}[1]",
                    f"sum([u * v for u, v in zip({name}, [1, 2, 3])]) % 97", f"max({name})",
                    f"(lambda p, *q: p + len(q))(*{name})", f"[*{name}, {one()}][-1]"])
            return self.random.choice([f"sum({name}) % 97", f"len({name})", f"sum([v * 2 for v in {name}]) % 97",
                                       f"sum(v for v in {name} if C > 1) % 97"])
        if kind == 7 and scope.boxes:
            return f"{self.random.choice(scope.boxes)}{self.random.choice(['', '.add'])}({one()} % 5)"
        if kind == 8:
            return f"{self.random.choice(['min', 'max'])}({one()}, {one()})"
        if kind == 9:
            return f"(1 if {self.condition(scope, inner)} else 0)"
        if kind == 10:
            return f"clip({one()}, {self.random.randint(0, 3)}, high={self.random.randint(4, 9)})"
        return self.atom(scope)

    def condition(self, scope: Scope, depth: int = 1) -> str:
        kind = self.random.randint(0, 8)
        one = lambda: self.expression(scope, min(depth, 1))  # noqa: E731
        compare = f"{one()} {self.random.choice(['<', '<=', '==', '!=', '>', '>='])} {one()}"
        if depth > 0 and kind == 0:
            word = self.random.choice(["and", "or"])
            return f"({self.condition(scope, depth - 1)} {word} {self.condition(scope, depth - 1)})"
        if kind == 1:
            return f"not {compare}"
        if kind == 2:
            return f"{self.random.randint(0, 2)} <= {one()} < {self.random.randint(3, 9)}"
        if kind == 3:
            return f"C {self.random.choice(['>', '<', '=='])} {self.random.randint(1, 3)}"
        if kind == 4:
            self.marks += 1
            return f"{compare} {self.random.choice(['and', 'or'])} mark(o, {self.marks % 4 + 20}, 1) > 5"
        if kind == 5:
            return f"{one()} in (1, {one()})"
        if kind == 6 and scope.bools:
            return self.random.choice(scope.bools)
        if kind == 7:
            return self.random.choice([f"any([{compare}, C > 2])", f"all([{compare}, {one()} > 0])"])
        return compare

    # -- statements

    def block(self, scope: Scope, depth: int, levels: int, count: int, loop: bool = False) -> None:
        kinds = ["assign"] * 4 + ["element"] * 4 + ["mutate"] * 3 + ["call"] * 2
        kinds += ["declare", "unpack", "rebind", "bool"]
        if levels:
            kinds += ["branch"] * 4 + ["loop"] * 2 + ["while", "static", "items"]
        before = len(self.lines)
        for _ in range(count):
            getattr(self, f"do_{self.random.choice(kinds)}")(scope, depth, levels)
        if len(self.lines) == before:
            self.line(depth, "pass")
        if loop and self.chance(0.3):
            self.line(depth, f"if {self.condition(scope)}:")
            self.line(depth + 1, self.random.choice(["break", "continue", "break"]))
            self.do_assign(scope, depth, levels)

    def assignable(self, scope: Scope) -> str:
        names = [n for n in scope.ints if n not in ("a", "b", "y") and not n.startswith("i")]
        return self.random.choice(names) if names else ""

    def do_assign(self, scope: Scope, depth: int, levels: int) -> None:
        name = self.assignable(scope)
        if not name:
            self.new_int(scope, depth)
        elif self.chance(0.3):
            self.line(depth, f"{name} += {self.expression(scope, 1)} % 5")
        elif self.chance(0.1):
            self.line(depth, f"o[19] = ({name} := {self.expression(scope)}) + 1")
        else:
            self.line(depth, f"{name} = {self.expression(scope)}")

    def do_element(self, scope: Scope, depth: int, levels: int) -> None:
        if scope.dicts and (not scope.lists or self.chance(0.3)):
            self.line(depth, f"{self.random.choice(scope.dicts)}['{self.random.choice('pq')}'] = "
                             f"{self.expression(scope)}")
        elif scope.lists:
            name = self.random.choice(list(scope.lists))
            place = self.random.choice([0, -1, "C % 2"])
            operator = self.random.choice(["=", "=", "+="])
            value = self.expression(scope)
            self.line(depth, f"{name}[{place}] {operator} {value if operator == '=' else f'{value} % 5'}")
        else:
            self.do_assign(scope, depth, levels)

    def do_mutate(self, scope: Scope, depth: int, levels: int) -> None:
        if not scope.lists:
            self.do_assign(scope, depth, levels)
            return
        name = self.random.choice(list(scope.lists))
        one = self.expression(scope, 1)
        choices = [f"put({name}, {one})", f"put_if({name}, {one}, {self.atom(scope)})", f"swap({name})",
                   f"{name}.reverse()", f"{name}[:] = [{one}] + {name}[1:]",
                   f"{name}.insert(0, {name}.pop())", f"{name}.append({one}); {name}.pop(0)"]
        if self.chance(0.08):
            choices = [f"{name}.append({one})", f"{name} += [{one}]"]
        if scope.dicts:
            choices.append(f"{self.random.choice(scope.dicts)}.update(p={one})")
        text = self.random.choice(choices)
        if not ("[" in name and text.startswith(f"{name} +=")):
            self.line(depth, text)

    def do_call(self, scope: Scope, depth: int, levels: int) -> None:
        if scope.boxes and self.chance(0.5):
            self.line(depth, f"{self.random.choice(scope.boxes)}.add({self.expression(scope, 1)})")
        elif scope.functions:
            self.marks += 1
            self.line(depth, f"o[{10 + self.marks % 8}] = {self.random.choice(scope.functions)}({self.atom(scope)})")

    def do_declare(self, scope: Scope, depth: int, levels: int) -> None:
        kind = self.random.choice(["int", "list", "dict", "alias", "function", "nested", "box"])
        getattr(self, f"new_{kind}")(scope, depth)

    def do_unpack(self, scope: Scope, depth: int, levels: int) -> None:
        first, second = self.assignable(scope), self.assignable(scope)
        if first and first != second:
            self.line(depth, f"{first}, {second} = {self.expression(scope, 1)}, {self.atom(scope)}")
        else:
            self.do_assign(scope, depth, levels)

    def do_bool(self, scope: Scope, depth: int, levels: int) -> None:
        if scope.bools and self.chance(0.6):
            self.line(depth, f"{self.random.choice(scope.bools)} = {self.condition(scope)}")
        else:
            name = self.name("c")
            self.line(depth, f"{name} = {self.condition(scope)}")
            scope.bools.append(name)

    def do_rebind(self, scope: Scope, depth: int, levels: int) -> None:
        """A list's name becomes that of another list, which has as many elements."""
        names = [n for n in scope.lists if "[" not in n and "." not in n]
        if not names:
            self.do_assign(scope, depth, levels)
            return
        name = self.random.choice(names)
        others = [n for n in scope.lists if scope.lists[n] == scope.lists[name]]
        one = self.expression(scope, 1)
        fresh = f"[{', '.join([one, *(f'{name}[{i}]' for i in range(1, scope.lists[name]))])}]"
        self.line(depth, f"{name} = " + self.random.choice(
            [fresh, fresh, f"list({name})", f"[v + 1 for v in {name}]", f"same({self.random.choice(others)})",
             f"{self.random.choice(others)} if {self.condition(scope)} else {name}"]))

    def do_items(self, scope: Scope, depth: int, levels: int) -> None:
        if not scope.dicts:
            self.do_assign(scope, depth, levels)
            return
        name, key, value = self.random.choice(scope.dicts), self.name("k"), self.name("i")
        self.line(depth, f"for {key}, {value} in {name}.items():")
        self.line(depth + 1, f"{name}[{key}] = ({value} + {self.expression(scope, 1)}) % 97")

    def do_branch(self, scope: Scope, depth: int, levels: int) -> None:
        self.line(depth, f"if {self.condition(scope)}:")
        self.block(scope.inner(), depth + 1, levels - 1, self.random.randint(1, 3))
        if self.chance(0.5):
            self.line(depth, "else:")
            self.block(scope.inner(), depth + 1, levels - 1, self.random.randint(1, 2))
        elif depth == 1 and self.chance(0.06):
            self.line(depth + 1, "return")

    def do_loop(self, scope: Scope, depth: int, levels: int) -> None:
        name = self.name("i")
        bound = self.random.choice(["a % 4", "b % 3", f"{self.expression(scope, 1)} % 4", "2", "C"])
        self.line(depth, f"for {name} in range({bound}):")
        inner = scope.inner()
        inner.ints.append(name)
        self.block(inner, depth + 1, levels - 1, self.random.randint(1, 3), loop=True)

    def do_static(self, scope: Scope, depth: int, levels: int) -> None:
        name = self.name("i")
        over = self.random.choice(["tl.static_range(3)", "(1, 2)", "TABLE", "[C, 4]"])
        self.line(depth, f"for {name} in {over}:")
        inner = scope.inner()
        inner.ints.append(name)
        self.block(inner, depth + 1, levels - 1, self.random.randint(1, 2), loop=True)

    def do_while(self, scope: Scope, depth: int, levels: int) -> None:
        name = self.name("i")
        self.line(depth, f"{name} = {self.random.choice(['a % 4', 'b % 5', '3', self.atom(scope) + ' % 4'])}")
        test = f"{name} > 0" if self.chance(0.8) else f"({name} := {name} - 1) >= 0"
        if self.chance(0.4):
            test += f" and {self.condition(scope)}"
        self.line(depth, f"while {test}:")
        self.line(depth + 1, f"{name} -= 1")
        inner = scope.inner()
        inner.ints.append(name)
        self.block(inner, depth + 1, levels - 1, self.random.randint(1, 2), loop=True)

    def finish(self, scope: Scope, depth: int) -> None:
        """Store what there is at the end."""
        values = scope.ints[2:] + [f"sum({n}) + 100 * len({n}) + 10000 * {n}[0]" for n in scope.lists]
        values += [f"{d}['p'] * 100 + {d}['q']" for d in scope.dicts] + [f"{b}.v" for b in scope.boxes]
        for place, value in enumerate(values[:10]):
            self.line(depth, f"o[{place}] = {value}")
