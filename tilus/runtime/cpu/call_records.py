"""What the warm call of a kernel (``call_ir.py``) reads: arrays of 64-bit words, which ``quick.py`` makes and keeps
alive. Borrowed references to objects are in them as addresses."""

from __future__ import annotations

# Words of a caller. PLANS are the last ones, the latest first; 0 where there are fewer.
FALLBACK, NONE, PARAMETERS, NAMES, DEFAULTS, ENGINE, CHECKS, CHECK, PLANS = range(9)
MAX_PLANS = 8
# Words of what has to hold for all plans: an object, and where it is found. FORGIVEN is a class of exceptions which
# say that it is not there.
CHECK_KIND, CHECK_OWNER, CHECK_NAME, CHECK_VALUE, CHECK_FORGIVEN = range(5)
CHECK_WORDS = 5
IN_DICTIONARY, IN_CELL, AS_ATTRIBUTE, AS_RESULT = range(4)
# Words of a plan: what keeps it and its code alive, the value of the engine's variable, the launch function, its
# packed words, what they are filled from, byte ranges that may not overlap, whether somebody is told of arrays that
# have been written, where the address of the launch function's table is, and, or 0: a function that gives a stream,
# one that says how much memory is needed, one of Python's that allocates. Then how many arrays the call makes and gives
# back, their records, and whether it gives a tuple of them.
(PLAN_OWNER, PLAN_ENGINE, PLAN_LAUNCH, PLAN_FAIL, PLAN_WORDS, PLAN_TEMPLATE, PLAN_GUARDS, PLAN_PAIRS,
 PLAN_PAIR, PLAN_TOLD, PLAN_TABLE, PLAN_STREAM, PLAN_MEASURE, PLAN_ALLOCATE, PLAN_MADE, PLAN_MAKE,
 PLAN_SEVERAL) = range(17)
# Words of an array that a call makes: a function that makes it, one that gives its address (0 for those of NumPy's),
# that address modulo 16, and the packed word that it becomes.
MAKE_FUNCTION, MAKE_ADDRESS, MAKE_MODULO, MAKE_WORD = range(4)
MAKE_WORDS = 4
PAIR_WORDS = 6
"""The packed words of two addresses, then the first byte and the one past the last of both arrays."""
# Words of a guard, which a value has to pass. WORD is the packed word that comes of it.
GUARD_KIND, GUARD_TYPE, GUARD_WORD, GUARD_A, GUARD_B, GUARD_C, GUARD_D, GUARD_EXTENTS = range(8)
ARRAY, CONSTANT, EQUAL, INTEGER, FLOAT32, FLOAT64, BOOLEAN, KEYED, ASKED = range(9)
# Of arrays A is the dtype, B the rank, C the address modulo 16, D the flags that it needs; extents and strides follow.
# Of constants and bools A is an object (True), of bools B is False, of integers A is the least value and B the largest.
# Of other classes of arrays A is a function that gives address and key, or None, B the key, C the class of exceptions
# by which it refuses, D a function that is told of an array that has been written, or 0, and EXTENTS is None.
# Of tensors A is a function that says whether they are like one before, B one that gives their address, C that modulo
# 16, D as above. Then follow True, how many elements they span and the bytes of one, functions that give the number of
# the first element in their storage, the storage, and the bytes of that, a function that says False of those that may
# be asked, and pairs of an attribute's name and value that they have.
ATTRIBUTES = 3
UNDONE = -(1 << 32)
"""Statuses from here down say that nothing has been launched, and the kernel's own way says why."""
MAX_WORDS = 128
MAX_PARAMETERS = 64

OBJECT_TYPE = 8
"""The byte of an object that the address of its type is at, where it begins with two words."""
ARRAY_DATA, ARRAY_RANK, ARRAY_EXTENTS, ARRAY_STRIDES, ARRAY_DTYPE, ARRAY_FLAGS = 16, 24, 32, 40, 56, 64
"""Bytes of NumPy's ``PyArrayObject_fields``."""
WRITEABLE = 0x400
"""``NPY_ARRAY_WRITEABLE``."""
EXACT = 1 << 53
"""Integers up to this are doubles."""


def word(base: str, index: int) -> str:
    """The address of a word of a record, in LLVM IR."""
    return f"getelementptr i64, ptr %{base}, i64 {index}"


def byte(base: str, offset: int) -> str:
    """The address of a byte of an object."""
    return f"getelementptr i8, ptr %{base}, i64 {offset}"
