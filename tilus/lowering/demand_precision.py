"""Functions of f32 get the precision that their use needs: that of 16 bits where all comes to be rounded to such.

What is known of a value is how its relative error shows: products and quotients pass it on, as do sums of what is not
negative, extrema and movements. Sums of other values do not, since they may cancel.

A sum or product of 16-bit floats that is rounded to their type is computed in it, two at a time: f32 has more than
twice their digits, so that rounding to it before changes nothing.
"""

from __future__ import annotations

from tilus.ir.core import Function, Module, Operation, Value
from tilus.ir.dtypes import DType, bf16, f16, f32
from tilus.ir.families import Movement
from tilus.ir.ops import Binary, Broadcast, Cast, Const, For, If, Reduce, Select, Unary, Yield
from tilus.ir.rewriter import find_users, rewrite_block
from tilus.lowering.math.rounded import ROUNDED

_ROUNDED_ONCE = {f16: frozenset({"add", "sub", "mul"}), bf16: frozenset({"add", "sub"})}
"""What gives in f32, where it is rounded to 16 bits after that, what it gives in 16 bits. Products of bf16 may be too
small for f32."""
_NOT_NEGATIVE = frozenset({"exp", "exp2", "sqrt", "sigmoid", "abs", "erfc"})


def demand_precision(module: Module) -> None:
    """Give functions of a tile module their precision, in place; the user's stay."""
    for function in module.kernels:
        _Demands(function).run()


class _Demands:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.users = find_users(function)
        self.known: dict[Value, DType | None] = {}
        self.signs: dict[Value, bool] = {}
        self.loops = {arg: (op, i) for op in function.walk() if isinstance(op, For)
                      for i, arg in enumerate(op.carried)}
        self.ends: dict[Operation, Operation] = {region.terminator: op for op in function.walk()
                                                 for region in op.regions if isinstance(op, (For, If))}

    def run(self) -> None:
        rewrite_block(self.function.body, self.rewrite, {})

    def rewrite(self, op: Operation) -> list[Operation] | None:
        if isinstance(op, Unary) and op.kind in ROUNDED and op.precision is None and not op.approximate:
            if op.x.tile.dtype is f32:
                op.precision = self.needed(op.result)
        elif isinstance(op, Binary) and op.result.tile.dtype is f32 and op.precision is None:
            if op.kind == "div":
                return self.quotient(op)
            if op.kind == "add" and self.needed(op.result) is not None:
                return self.one_and_erf(op)
        elif isinstance(op, Cast):
            return self.in_16_bits(op)
        return None

    def in_16_bits(self, op: Cast) -> list[Operation] | None:
        """A sum or product of casts that becomes what it was cast from."""
        made, moved = op.x.defining, list[Operation]()
        if not (isinstance(made, Binary) and op.x.tile.dtype is f32 and len(self.users[op.x]) == 1
                and made.kind in _ROUNDED_ONCE.get(op.dtype, ())):
            return None
        sides = [_before_cast(v, op.dtype, moved) for v in made.operands]
        if sides[0] is None or sides[1] is None:
            return None
        return self.replaced(op, *moved, Binary(made.kind, sides[0], sides[1], contract=False, span=made.span))

    def quotient(self, op: Binary) -> list[Operation] | None:
        """A division by what many elements share is a product with its reciprocal."""
        precision, divisor = self.needed(op.result), op.rhs.defining
        if precision is None:
            return None
        if not isinstance(divisor, Broadcast):
            op.precision = precision
            return None
        reciprocal = Unary("rcp", divisor.x, precision=bf16, span=op.span)  # of any number
        shared = Broadcast(reciprocal.result, divisor.shape, span=op.span)
        product = Binary("mul", op.lhs, shared.result, span=op.span)
        return self.replaced(op, reciprocal, shared, product)

    def one_and_erf(self, op: Binary) -> list[Operation] | None:
        """1 + erf(x) = erfc(-x), which has a relative error."""
        for first, second in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
            erf, one = first.defining, second.defining
            if (isinstance(erf, Unary) and erf.kind == "erf" and erf.precision is None
                    and isinstance(one, Const) and one.value == 1.0):
                negative = Unary("neg", erf.x, span=op.span)
                return self.replaced(op, negative, Unary("erfc", negative.result, precision=self.needed(op.result),
                                                         span=erf.span))
        return None

    def replaced(self, op: Binary | Cast, *ops: Operation) -> list[Operation]:
        old, new = op.result, ops[-1].results[0]
        for user in self.users.get(old, ()):
            user.map_operands(lambda v: new if v is old else v)
        self.users[new], self.known[new] = self.users.get(old, []), self.needed(old)
        return list(ops)

    # -- how precise a value has to be

    def needed(self, value: Value) -> DType | None:
        """The 16-bit type to which all that comes of a value is rounded; None where it is needed as it is."""
        if value not in self.known:
            self.known[value] = None  # for what leads back here
            self.known[value] = self.combined(value)
        return self.known[value]

    def combined(self, value: Value) -> DType | None:
        users = self.users.get(value, ())
        found = {self.asked(user, value) for user in users}
        if not found or None in found:
            return None
        return f16 if found == {f16} else bf16

    def asked(self, user: Operation, value: Value) -> DType | None:
        """The precision that one use asks for."""
        if isinstance(user, Cast):
            return user.dtype if user.dtype in (f16, bf16) else None
        if isinstance(user, Yield):
            return self.given(user, value)
        passes = (isinstance(user, Movement) or (isinstance(user, Unary) and user.kind in ("neg", "abs"))
                  or (isinstance(user, Select) and value is not user.condition)
                  or (isinstance(user, Binary) and user.kind in ("mul", "div", "min", "max"))
                  or (isinstance(user, Reduce) and user.kind in ("min", "max"))
                  or self.adds_up(user))
        return self.needed(user.results[0]) if passes and user.results[0].tile.dtype is f32 else None

    def given(self, end: Yield, value: Value) -> DType | None:
        """Of what a branch gives, or a loop that adds to it."""
        op = self.ends.get(end)
        if op is None or sum(v is value for v in end.operands) != 1:
            return None
        i = next(i for i, v in enumerate(end.operands) if v is value)
        if isinstance(op, For):
            users = self.users.get(op.carried[i], [])
            if not (len(users) == 1 and users[0] is value.defining and self.adds_up(users[0])):
                return None
        return self.needed(op.results[i])

    def adds_up(self, op: Operation) -> bool:
        """Whether an operation adds what is not negative."""
        sums = (isinstance(op, Binary) and op.kind == "add") or (isinstance(op, Reduce) and op.kind == "sum")
        return sums and all(map(self.not_negative, op.operands))

    def not_negative(self, value: Value) -> bool:
        if value not in self.signs:
            self.signs[value] = True  # of what a loop carries: by induction
            self.signs[value] = self.found_not_negative(value)
        return self.signs[value]

    def found_not_negative(self, value: Value) -> bool:
        if value in self.loops:
            loop, i = self.loops[value]
            return self.not_negative(loop.init[i]) and self.not_negative(loop.body.terminator.operands[i])
        op = value.defining
        if isinstance(op, Const):
            return op.value >= 0
        if isinstance(op, Unary):
            return op.kind in _NOT_NEGATIVE
        if isinstance(op, Binary):
            sides = [self.not_negative(v) for v in op.operands]
            if op.kind == "max":
                return any(sides)
            squares = op.kind == "mul" and op.lhs is op.rhs
            return squares or (op.kind in ("add", "mul", "div", "min") and all(sides))
        if isinstance(op, Select):
            return self.not_negative(op.x) and self.not_negative(op.y)
        if isinstance(op, For):
            i = op.results.index(value)
            return self.not_negative(op.init[i]) and self.not_negative(op.body.terminator.operands[i])
        moved = isinstance(op, (Movement, Cast)) or (isinstance(op, Reduce) and op.kind in ("sum", "min", "max"))
        return moved and op is not None and self.not_negative(op.operands[0])


def _before_cast(value: Value, dtype: DType, moved: list[Operation]) -> Value | None:
    """What was cast to a value, with the movements after that done before; None where it was of another type."""
    maker = value.defining
    if isinstance(maker, Cast):
        return maker.x if maker.x.tile.dtype is dtype else None
    if not isinstance(maker, Movement):
        return None
    source = _before_cast(maker.x, dtype, moved)
    if source is None:
        return None
    moved.append(maker.on((source,)))
    return moved[-1].results[0]
