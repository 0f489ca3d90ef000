"""The warm call of a kernel in LLVM IR: a function that Python calls as one of its own (METH_FASTCALL).

It binds the arguments, compares them with the plans of the last calls, fills in addresses and scalars, and launches
without Python's lock. Whatever it does not know goes on to the fallback, a Python function of the same arguments,
which knows all, and says what is wrong. Nothing here raises but what that or a failed launch raises.

The records that it reads are arrays of 64-bit words, which ``quick.py`` makes and keeps alive. Borrowed references to
objects are in them as addresses.
"""

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


def _word(base: str, index: int) -> str:
    return f"getelementptr i64, ptr %{base}, i64 {index}"


def _byte(base: str, offset: int) -> str:
    return f"getelementptr i8, ptr %{base}, i64 {offset}"


API = ("PyContextVar_Get", "PyDict_GetItemWithError", "PyCell_Get", "PyObject_GetAttr", "PyObject_CallNoArgs",
       "PyErr_ExceptionMatches", "PyErr_Clear", "Py_IncRef", "Py_DecRef", "PyLong_AsLongLongAndOverflow",
       "PyFloat_AsDouble", "PyObject_RichCompareBool", "PyEval_SaveThread", "PyEval_RestoreThread",
       "PyObject_VectorcallDict", "PyLong_FromLongLong", "PyLong_AsVoidPtr", "PyTuple_GetItem", "PyTuple_Size",
       "PyErr_Occurred", "PyDict_New", "PyDict_SetItem", "PyTuple_New", "PyTuple_SetItem")
"""What is used of Python's C interface."""

_DECLARATIONS = """
declare i32 @PyContextVar_Get(ptr, ptr, ptr)
declare ptr @PyDict_GetItemWithError(ptr, ptr)
declare ptr @PyCell_Get(ptr)
declare ptr @PyObject_GetAttr(ptr, ptr)
declare ptr @PyObject_CallNoArgs(ptr)
declare i32 @PyErr_ExceptionMatches(ptr)
declare void @PyErr_Clear()
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare i64 @PyLong_AsLongLongAndOverflow(ptr, ptr)
declare double @PyFloat_AsDouble(ptr)
declare i32 @PyObject_RichCompareBool(ptr, ptr, i32)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyObject_VectorcallDict(ptr, ptr, i64, ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyLong_AsVoidPtr(ptr)
declare ptr @PyTuple_GetItem(ptr, i64)
declare i64 @PyTuple_Size(ptr)
declare ptr @PyErr_Occurred()
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare ptr @PyDict_New()
declare i32 @PyDict_SetItem(ptr, ptr, ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""

# What is here of calls is what all Pythons from 3.10 on export.
_CALLS = """
; Calls an object with one argument.
define internal ptr @call_with(ptr %function, ptr %argument) {
  %slot = alloca ptr
  store ptr %argument, ptr %slot
  %result = call ptr @PyObject_VectorcallDict(ptr %function, ptr %slot, i64 1, ptr null)
  ret ptr %result
}

; Calls an object with positional arguments and those that a tuple names, which follow them.
define internal ptr @call_python(ptr %function, ptr %args, i64 %given, ptr %names) {
entry:
  %none = icmp eq ptr %names, null
  br i1 %none, label %positional, label %named
positional:
  %result = call ptr @PyObject_VectorcallDict(ptr %function, ptr %args, i64 %given, ptr null)
  ret ptr %result
named:
  %keywords = call ptr @PyDict_New()
  %nothing = icmp eq ptr %keywords, null
  br i1 %nothing, label %error, label %begin
begin:
  %count = call i64 @PyTuple_Size(ptr %names)
  br label %turn
turn:
  %k = phi i64 [ 0, %begin ], [ %k1, %set ]
  %all = icmp eq i64 %k, %count
  br i1 %all, label %call, label %set
set:
  %name = call ptr @PyTuple_GetItem(ptr %names, i64 %k)
  %at = add i64 %given, %k
  %slot = getelementptr ptr, ptr %args, i64 %at
  %value = load ptr, ptr %slot
  %failed = call i32 @PyDict_SetItem(ptr %keywords, ptr %name, ptr %value)
  %k1 = add i64 %k, 1
  %bad = icmp ne i32 %failed, 0
  br i1 %bad, label %drop, label %turn
call:
  %answer = call ptr @PyObject_VectorcallDict(ptr %function, ptr %args, i64 %given, ptr %keywords)
  br label %drop
drop:
  %given_ = phi ptr [ %answer, %call ], [ null, %set ]
  call void @Py_DecRef(ptr %keywords)
  ret ptr %given_
error:
  ret ptr null
}
"""

_HOLDS = f"""
; Whether an object is still where it was: 1, 0, or -1 with an exception.
define internal i32 @holds(ptr %check) {{
entry:
  %kind = load i64, ptr %check
  %ownerw = {_word("check", CHECK_OWNER)}
  %owner = load ptr, ptr %ownerw
  %namew = {_word("check", CHECK_NAME)}
  %name = load ptr, ptr %namew
  %valuew = {_word("check", CHECK_VALUE)}
  %value = load ptr, ptr %valuew
  switch i64 %kind, label %attribute [ i64 {IN_DICTIONARY}, label %dictionary
                                       i64 {IN_CELL}, label %cell
                                       i64 {AS_RESULT}, label %result ]
dictionary:  ; the reference is borrowed
  %item = call ptr @PyDict_GetItemWithError(ptr %owner, ptr %name)
  br label %compare
cell:
  %content = call ptr @PyCell_Get(ptr %owner)
  br label %owned
attribute:
  %held = call ptr @PyObject_GetAttr(ptr %owner, ptr %name)
  br label %owned
result:
  %said = call ptr @PyObject_CallNoArgs(ptr %owner)
  br label %owned
owned:
  %new = phi ptr [ %content, %cell ], [ %held, %attribute ], [ %said, %result ]
  %missing = icmp eq ptr %new, null
  br i1 %missing, label %nothing, label %release
release:
  call void @Py_DecRef(ptr %new)
  br label %compare
compare:
  %found = phi ptr [ %item, %dictionary ], [ %new, %release ]
  %same = icmp eq ptr %found, %value
  %yes = zext i1 %same to i32
  ret i32 %yes
nothing:
  %empty = icmp eq i64 %kind, {IN_CELL}
  br i1 %empty, label %no, label %raised
raised:
  %forgivenw = {_word("check", CHECK_FORGIVEN)}
  %forgiven = load ptr, ptr %forgivenw
  %known = icmp ne ptr %forgiven, null
  br i1 %known, label %match, label %error
match:
  %matches = call i32 @PyErr_ExceptionMatches(ptr %forgiven)
  %expected = icmp ne i32 %matches, 0
  br i1 %expected, label %clear, label %error
clear:
  call void @PyErr_Clear()
  br label %no
no:
  ret i32 0
error:
  ret i32 -1
}}
"""

_BIND = f"""
; One value for each parameter; 0 where the arguments are not so.
define internal i1 @bind(ptr %caller, ptr %args, i64 %given, ptr %keywords, ptr %values) {{
entry:
  %countw = {_word("caller", PARAMETERS)}
  %count = load i64, ptr %countw
  %namesw = {_word("caller", NAMES)}
  %names = load ptr, ptr %namesw
  %defaultsw = {_word("caller", DEFAULTS)}
  %defaults = load ptr, ptr %defaultsw
  %bytes = shl i64 %count, 3
  %many = icmp ugt i64 %given, %count
  br i1 %many, label %no, label %copy
copy:
  %positional = shl i64 %given, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %values, ptr %defaults, i64 %bytes, i1 false)
  call void @llvm.memcpy.p0.p0.i64(ptr %values, ptr %args, i64 %positional, i1 false)
  %none = icmp eq ptr %keywords, null
  br i1 %none, label %complete, label %named
named:
  %keys = call i64 @PyTuple_Size(ptr %keywords)
  br label %keyword
keyword:
  %k = phi i64 [ 0, %named ], [ %k1, %assign ]
  %all = icmp eq i64 %k, %keys
  br i1 %all, label %complete, label %find
find:
  %name = call ptr @PyTuple_GetItem(ptr %keywords, i64 %k)
  br label %search
search:
  %place = phi i64 [ %given, %find ], [ %place1, %other ]
  %unknown = icmp eq i64 %place, %count
  br i1 %unknown, label %no, label %look
look:
  %slot = getelementptr ptr, ptr %names, i64 %place
  %candidate = load ptr, ptr %slot
  %same = icmp eq ptr %candidate, %name
  br i1 %same, label %assign, label %other
other:
  %place1 = add i64 %place, 1
  br label %search
assign:
  %from = add i64 %given, %k
  %source = getelementptr ptr, ptr %args, i64 %from
  %value = load ptr, ptr %source
  %target = getelementptr ptr, ptr %values, i64 %place
  store ptr %value, ptr %target
  %k1 = add i64 %k, 1
  br label %keyword
complete:
  br label %check
check:
  %i = phi i64 [ 0, %complete ], [ %i1, %there ]
  %done = icmp eq i64 %i, %count
  br i1 %done, label %yes, label %test
test:
  %at = getelementptr ptr, ptr %values, i64 %i
  %v = load ptr, ptr %at
  %absent = icmp eq ptr %v, null
  br i1 %absent, label %no, label %there
there:
  %i1 = add i64 %i, 1
  br label %check
yes:
  ret i1 true
no:
  ret i1 false
}}
"""

_ARRAY = f"""
; Whether an array is as one before, but for its address, which becomes a word.
define internal i1 @array_fits(ptr %guard, ptr %value, ptr %words) {{
entry:
  %ranka = {_byte("value", ARRAY_RANK)}
  %rank32 = load i32, ptr %ranka
  %rank = sext i32 %rank32 to i64
  %dtypea = {_byte("value", ARRAY_DTYPE)}
  %dtype = load ptr, ptr %dtypea
  %flagsa = {_byte("value", ARRAY_FLAGS)}
  %flags32 = load i32, ptr %flagsa
  %flags = zext i32 %flags32 to i64
  %dataa = {_byte("value", ARRAY_DATA)}
  %data = load i64, ptr %dataa
  %wanteda = {_word("guard", GUARD_A)}
  %wanted = load ptr, ptr %wanteda
  %ranksa = {_word("guard", GUARD_B)}
  %ranks = load i64, ptr %ranksa
  %moduloa = {_word("guard", GUARD_C)}
  %modulo = load i64, ptr %moduloa
  %neededa = {_word("guard", GUARD_D)}
  %needed = load i64, ptr %neededa
  %low = and i64 %data, 15
  %flag = and i64 %flags, %needed
  %same1 = icmp eq i64 %rank, %ranks
  %same2 = icmp eq i64 %low, %modulo
  %same3 = icmp eq i64 %flag, %needed
  %both = and i1 %same1, %same2
  %all3 = and i1 %both, %same3
  br i1 %all3, label %elements, label %no
elements:
  %one = icmp eq ptr %dtype, %wanted
  br i1 %one, label %dimensions, label %equal
equal:  ; those of arrays from files and other processes are objects of their own
  %equals = call i32 @PyObject_RichCompareBool(ptr %dtype, ptr %wanted, i32 2)
  %like_ = icmp eq i32 %equals, 1
  br i1 %like_, label %dimensions, label %no
dimensions:
  %extentsa = {_byte("value", ARRAY_EXTENTS)}
  %extents = load ptr, ptr %extentsa
  %stridesa = {_byte("value", ARRAY_STRIDES)}
  %strides = load ptr, ptr %stridesa
  %known = {_word("guard", GUARD_EXTENTS)}
  %knownstrides = getelementptr i64, ptr %known, i64 %rank
  br label %loop
loop:
  %i = phi i64 [ 0, %dimensions ], [ %i1, %next ]
  %all = icmp eq i64 %i, %rank
  br i1 %all, label %yes, label %compare
compare:
  %na = getelementptr i64, ptr %extents, i64 %i
  %n = load i64, ptr %na
  %sa = getelementptr i64, ptr %strides, i64 %i
  %s = load i64, ptr %sa
  %n0a = getelementptr i64, ptr %known, i64 %i
  %n0 = load i64, ptr %n0a
  %s0a = getelementptr i64, ptr %knownstrides, i64 %i
  %s0 = load i64, ptr %s0a
  %samen = icmp eq i64 %n, %n0
  %sames = icmp eq i64 %s, %s0
  %like = and i1 %samen, %sames
  br i1 %like, label %next, label %no
next:
  %i1 = add i64 %i, 1
  br label %loop
yes:
  %placea = {_word("guard", GUARD_WORD)}
  %place = load i64, ptr %placea
  %word = getelementptr i64, ptr %words, i64 %place
  store i64 %data, ptr %word
  ret i1 true
no:
  ret i1 false
}}
"""

_KEYED = f"""
; Whether an array of another class has the key of one before; its address becomes a word. Where it has not there may be
; an exception: what the function has raised that says something else.
define internal i1 @key_fits(ptr %guard, ptr %value, ptr %word) {{
entry:
  %functionw = {_word("guard", GUARD_A)}
  %function = load ptr, ptr %functionw
  %wantedw = {_word("guard", GUARD_B)}
  %wanted = load ptr, ptr %wantedw
  %refusalw = {_word("guard", GUARD_C)}
  %refusal = load ptr, ptr %refusalw
  %nonew = {_word("guard", GUARD_EXTENTS)}
  %none = load ptr, ptr %nonew
  %found = call ptr @call_with(ptr %function, ptr %value)
  %raised = icmp eq ptr %found, null
  br i1 %raised, label %error, label %look
error:
  %matches = call i32 @PyErr_ExceptionMatches(ptr %refusal)
  %refused = icmp ne i32 %matches, 0
  br i1 %refused, label %clear, label %no
clear:
  call void @PyErr_Clear()
  br label %no
look:
  %nothing = icmp eq ptr %found, %none
  br i1 %nothing, label %release, label %compare
compare:
  %number = call ptr @PyTuple_GetItem(ptr %found, i64 0)
  %address = call ptr @PyLong_AsVoidPtr(ptr %number)
  store ptr %address, ptr %word
  %key = call ptr @PyTuple_GetItem(ptr %found, i64 1)
  %equal = call i32 @PyObject_RichCompareBool(ptr %key, ptr %wanted, i32 2)
  br label %release
release:
  %result = phi i32 [ 0, %look ], [ %equal, %compare ]
  call void @Py_DecRef(ptr %found)
  %same = icmp eq i32 %result, 1
  ret i1 %same
no:
  ret i1 false
}}
"""

_ASKED = f"""
; What a function gives for an argument, an integer; -1, and no exception, where it raises one.
define internal i64 @number_of(ptr %function, ptr %argument) {{
entry:
  %found = call ptr @call_with(ptr %function, ptr %argument)
  %raised = icmp eq ptr %found, null
  br i1 %raised, label %clear, label %read
clear:
  call void @PyErr_Clear()
  ret i64 -1
read:
  %number = call ptr @PyLong_AsVoidPtr(ptr %found)
  call void @Py_DecRef(ptr %found)
  %bits = ptrtoint ptr %number to i64
  ret i64 %bits
}}

; Whether a tensor is as one before, and all of it is in memory; its address becomes a word.
define internal i1 @tensor_fits(ptr %guard, ptr %value, ptr %word) {{
entry:
  %pairs = {_word("guard", GUARD_EXTENTS + 7)}
  br label %attribute
attribute:  ; A ends the process for tensors that have no strides
  %i = phi i64 [ 0, %entry ], [ %i1, %held ]
  %all = icmp eq i64 %i, {ATTRIBUTES}
  br i1 %all, label %plain, label %get
get:
  %pair = mul i64 %i, 2
  %namew = getelementptr i64, ptr %pairs, i64 %pair
  %name = load ptr, ptr %namew
  %objectw = getelementptr i64, ptr %namew, i64 1
  %object = load ptr, ptr %objectw
  %has = call ptr @PyObject_GetAttr(ptr %value, ptr %name)
  %hasnot = icmp eq ptr %has, null
  br i1 %hasnot, label %clear, label %held
held:
  call void @Py_DecRef(ptr %has)
  %same = icmp eq ptr %has, %object
  %i1 = add i64 %i, 1
  br i1 %same, label %attribute, label %no
plain:
  %wrappedw = {_word("guard", GUARD_EXTENTS + 6)}
  %wrapped = load ptr, ptr %wrappedw
  %is = call ptr @call_with(ptr %wrapped, ptr %value)
  %unknown = icmp eq ptr %is, null
  br i1 %unknown, label %clear, label %answer
answer:
  call void @Py_DecRef(ptr %is)
  %truew = {_word("guard", GUARD_EXTENTS)}
  %true_ = load ptr, ptr %truew
  %wraps = icmp eq ptr %is, %true_
  br i1 %wraps, label %no, label %guards
guards:
  %checkw = {_word("guard", GUARD_A)}
  %check = load ptr, ptr %checkw
  %said = call ptr @call_with(ptr %check, ptr %value)
  %raised = icmp eq ptr %said, null
  br i1 %raised, label %clear, label %compare
clear:
  call void @PyErr_Clear()
  br label %no
compare:
  %like_ = icmp eq ptr %said, %true_
  call void @Py_DecRef(ptr %said)
  br i1 %like_, label %place, label %no
place:
  %addressw = {_word("guard", GUARD_B)}
  %addresses = load ptr, ptr %addressw
  %moduloa = {_word("guard", GUARD_C)}
  %modulo = load i64, ptr %moduloa
  %address = call i64 @number_of(ptr %addresses, ptr %value)
  store i64 %address, ptr %word
  %low = and i64 %address, 15
  %aligned = icmp eq i64 %low, %modulo
  br i1 %aligned, label %size, label %no
size:
  %spanw = {_word("guard", GUARD_EXTENTS + 1)}
  %span = load i64, ptr %spanw
  %empty = icmp eq i64 %span, 0
  br i1 %empty, label %yes, label %look
look:
  %bytesw = {_word("guard", GUARD_EXTENTS + 2)}
  %bytes = load i64, ptr %bytesw
  %firstw = {_word("guard", GUARD_EXTENTS + 3)}
  %first = load ptr, ptr %firstw
  %storagew = {_word("guard", GUARD_EXTENTS + 4)}
  %storages = load ptr, ptr %storagew
  %sizew = {_word("guard", GUARD_EXTENTS + 5)}
  %sizes = load ptr, ptr %sizew
  %nowhere = icmp eq i64 %address, 0
  br i1 %nowhere, label %no, label %ask
ask:
  %offset = call i64 @number_of(ptr %first, ptr %value)
  %storage = call ptr @call_with(ptr %storages, ptr %value)
  %none = icmp eq ptr %storage, null
  br i1 %none, label %clear, label %measure
measure:
  %there = call i64 @number_of(ptr %sizes, ptr %storage)
  call void @Py_DecRef(ptr %storage)
  %end = add i64 %offset, %span
  %needed = mul i64 %end, %bytes
  %enough = icmp sle i64 %needed, %there
  ret i1 %enough
yes:
  ret i1 true
no:
  ret i1 false
}}
"""

_FITS = f"""
; Whether a value passes its guard; what it becomes is among the words then.
define internal i1 @fits(ptr %guard, ptr %value, ptr %words) {{
entry:
  %overflow = alloca i32
  %kind = load i64, ptr %guard
  %typea = {_byte("value", OBJECT_TYPE)}
  %type = load ptr, ptr %typea
  %wantedw = {_word("guard", GUARD_TYPE)}
  %wanted = load ptr, ptr %wantedw
  %placew = {_word("guard", GUARD_WORD)}
  %place = load i64, ptr %placew
  %word = getelementptr i64, ptr %words, i64 %place
  %aw = {_word("guard", GUARD_A)}
  %a = load i64, ptr %aw
  %bw = {_word("guard", GUARD_B)}
  %b = load i64, ptr %bw
  %object = inttoptr i64 %a to ptr
  %other = inttoptr i64 %b to ptr
  %exact = icmp eq ptr %type, %wanted
  %is = icmp eq ptr %value, %object
  switch i64 %kind, label %no [ i64 {ARRAY}, label %array
                                i64 {CONSTANT}, label %constant
                                i64 {EQUAL}, label %equal
                                i64 {INTEGER}, label %integer
                                i64 {FLOAT32}, label %float
                                i64 {FLOAT64}, label %float
                                i64 {BOOLEAN}, label %boolean
                                i64 {KEYED}, label %keyed
                                i64 {ASKED}, label %asked ]
array:
  br i1 %exact, label %look, label %no
look:
  %like = call i1 @array_fits(ptr %guard, ptr %value, ptr %words)
  ret i1 %like
keyed:
  br i1 %exact, label %ask, label %no
ask:
  %keys = call i1 @key_fits(ptr %guard, ptr %value, ptr %word)
  ret i1 %keys
asked:
  br i1 %exact, label %tensor, label %no
tensor:
  %tensors = call i1 @tensor_fits(ptr %guard, ptr %value, ptr %word)
  ret i1 %tensors
constant:
  ret i1 %is
equal:  ; of types whose comparison is Python's own
  br i1 %is, label %yes, label %typed
typed:
  br i1 %exact, label %compare, label %no
compare:
  %equals = call i32 @PyObject_RichCompareBool(ptr %value, ptr %object, i32 2)
  %same = icmp eq i32 %equals, 1
  ret i1 %same
integer:
  br i1 %exact, label %whole, label %no
whole:
  %n = call i64 @PyLong_AsLongLongAndOverflow(ptr %value, ptr %overflow)
  %over = load i32, ptr %overflow
  %within = icmp eq i32 %over, 0
  %above = icmp sge i64 %n, %a
  %below = icmp sle i64 %n, %b
  %between = and i1 %above, %below
  %holds = and i1 %between, %within
  store i64 %n, ptr %word
  ret i1 %holds
float:
  br i1 %exact, label %real, label %rational
real:
  %d0 = call double @PyFloat_AsDouble(ptr %value)
  br label %round
rational:  ; integers that are doubles
  %isint = icmp eq ptr %type, %object
  br i1 %isint, label %exactly, label %no
exactly:
  %m = call i64 @PyLong_AsLongLongAndOverflow(ptr %value, ptr %overflow)
  %over1 = load i32, ptr %overflow
  %within1 = icmp eq i32 %over1, 0
  %above1 = icmp sge i64 %m, {-EXACT}
  %below1 = icmp sle i64 %m, {EXACT}
  %between1 = and i1 %above1, %below1
  %holds1 = and i1 %between1, %within1
  %d1 = sitofp i64 %m to double
  br i1 %holds1, label %round, label %no
round:
  %d = phi double [ %d0, %real ], [ %d1, %exactly ]
  %single = icmp eq i64 %kind, {FLOAT32}
  br i1 %single, label %narrow, label %wide
narrow:
  %f = fptrunc double %d to float
  %bits = bitcast float %f to i32
  %padded = zext i32 %bits to i64
  store i64 %padded, ptr %word
  ret i1 true
wide:
  store double %d, ptr %word
  ret i1 true
boolean:
  %isnot = icmp eq ptr %value, %other
  %either = or i1 %is, %isnot
  %truth = zext i1 %is to i64
  store i64 %truth, ptr %word
  ret i1 %either
yes:
  ret i1 true
no:
  ret i1 false
}}
"""

_MATCHES = f"""
; Whether two arrays of a pair lie apart.
define internal i1 @apart(ptr %pair, ptr %words) {{
  %i = load i64, ptr %pair
  %jw = {_word("pair", 1)}
  %j = load i64, ptr %jw
  %lowiw = {_word("pair", 2)}
  %lowi = load i64, ptr %lowiw
  %highiw = {_word("pair", 3)}
  %highi = load i64, ptr %highiw
  %lowjw = {_word("pair", 4)}
  %lowj = load i64, ptr %lowjw
  %highjw = {_word("pair", 5)}
  %highj = load i64, ptr %highjw
  %aw = getelementptr i64, ptr %words, i64 %i
  %a = load i64, ptr %aw
  %bw = getelementptr i64, ptr %words, i64 %j
  %b = load i64, ptr %bw
  %firsta = add i64 %a, %lowi
  %enda = add i64 %a, %highi
  %firstb = add i64 %b, %lowj
  %endb = add i64 %b, %highj
  %after = icmp uge i64 %firsta, %endb
  %before = icmp uge i64 %firstb, %enda
  %either = or i1 %after, %before
  ret i1 %either
}}

; Whether a call is one that a plan is for; the packed words are filled then.
define internal i1 @matches(ptr %plan, i64 %count, ptr %values, ptr %words) {{
entry:
  %sizew = {_word("plan", PLAN_WORDS)}
  %size = load i64, ptr %sizew
  %bytes = shl i64 %size, 3
  %templatew = {_word("plan", PLAN_TEMPLATE)}
  %template = load ptr, ptr %templatew
  %guardsw = {_word("plan", PLAN_GUARDS)}
  %guards = load ptr, ptr %guardsw
  call void @llvm.memcpy.p0.p0.i64(ptr %words, ptr %template, i64 %bytes, i1 false)
  br label %parameter
parameter:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %all = icmp eq i64 %i, %count
  br i1 %all, label %overlaps, label %guard
guard:
  %guarda = getelementptr ptr, ptr %guards, i64 %i
  %record = load ptr, ptr %guarda
  %valuea = getelementptr ptr, ptr %values, i64 %i
  %value = load ptr, ptr %valuea
  %good = call i1 @fits(ptr %record, ptr %value, ptr %words)
  br i1 %good, label %next, label %no
next:
  %i1 = add i64 %i, 1
  br label %parameter
overlaps:
  %pairsw = {_word("plan", PLAN_PAIRS)}
  %pairs = load i64, ptr %pairsw
  %firstw = {_word("plan", PLAN_PAIR)}
  %first = load ptr, ptr %firstw
  br label %pair
pair:
  %p = phi i64 [ 0, %overlaps ], [ %p1, %another ]
  %done = icmp eq i64 %p, %pairs
  br i1 %done, label %yes, label %ranges
ranges:
  %skip = mul i64 %p, {PAIR_WORDS}
  %at = getelementptr i64, ptr %first, i64 %skip
  %far = call i1 @apart(ptr %at, ptr %words)
  br i1 %far, label %another, label %no
another:
  %p1 = add i64 %p, 1
  br label %pair
yes:
  ret i1 true
no:
  ret i1 false
}}

; The plan for a call, which is the first one from then on, with a reference to its owner; null where there is none, or
; where an exception has been raised. Functions of Python's may run meanwhile, and other threads with them.
define internal ptr @find(ptr %caller, ptr %engine, ptr %values, ptr %words) {{
entry:
  %countw = {_word("caller", PARAMETERS)}
  %count = load i64, ptr %countw
  %plans = {_word("caller", PLANS)}
  br label %turn
turn:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %all = icmp eq i64 %i, {MAX_PLANS}
  br i1 %all, label %none, label %read
read:
  %slot = getelementptr ptr, ptr %plans, i64 %i
  %plan = load ptr, ptr %slot
  %end = icmp eq ptr %plan, null
  br i1 %end, label %none, label %compare
compare:
  %enginew = {_word("plan", PLAN_ENGINE)}
  %wanted = load ptr, ptr %enginew
  %same = icmp eq ptr %wanted, %engine
  br i1 %same, label %look, label %next
look:
  %ownerw = {_word("plan", PLAN_OWNER)}
  %owner = load ptr, ptr %ownerw
  call void @Py_IncRef(ptr %owner)
  %good = call i1 @matches(ptr %plan, i64 %count, ptr %values, ptr %words)
  br i1 %good, label %found, label %other
other:
  call void @Py_DecRef(ptr %owner)
  %raised = call ptr @PyErr_Occurred()
  %error = icmp ne ptr %raised, null
  br i1 %error, label %none, label %next
next:
  %i1 = add i64 %i, 1
  br label %turn
found:
  %now = load ptr, ptr %slot
  %moved_ = icmp ne ptr %now, %plan
  %first = icmp eq i64 %i, 0
  %stays = or i1 %first, %moved_
  br i1 %stays, label %give, label %shift
shift:
  %k = phi i64 [ %i, %found ], [ %k0, %shift ]
  %k0 = sub i64 %k, 1
  %froma = getelementptr ptr, ptr %plans, i64 %k0
  %moved = load ptr, ptr %froma
  %toa = getelementptr ptr, ptr %plans, i64 %k
  store ptr %moved, ptr %toa
  %more = icmp ne i64 %k0, 0
  br i1 %more, label %shift, label %front
front:
  store ptr %plan, ptr %plans
  br label %give
give:
  ret ptr %plan
none:
  ret ptr null
}}
"""

_TELL = f"""
; Calls the functions that are told of arrays that have been written; 0 where one has raised an exception.
define internal i1 @tell_of_written(ptr %plan, i64 %count, ptr %values) {{
entry:
  %guardsw = {_word("plan", PLAN_GUARDS)}
  %guards = load ptr, ptr %guardsw
  br label %turn
turn:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %all = icmp eq i64 %i, %count
  br i1 %all, label %yes, label %look
look:
  %guarda = getelementptr ptr, ptr %guards, i64 %i
  %guard = load ptr, ptr %guarda
  %kind = load i64, ptr %guard
  %keyed = icmp uge i64 %kind, {KEYED}  ; or asked
  br i1 %keyed, label %read, label %next
read:
  %functionw = {_word("guard", GUARD_D)}
  %function = load ptr, ptr %functionw
  %none = icmp eq ptr %function, null
  br i1 %none, label %next, label %call
call:
  %valuea = getelementptr ptr, ptr %values, i64 %i
  %value = load ptr, ptr %valuea
  %said = call ptr @call_with(ptr %function, ptr %value)
  %raised = icmp eq ptr %said, null
  br i1 %raised, label %no, label %release
release:
  call void @Py_DecRef(ptr %said)
  br label %next
next:
  %i1 = add i64 %i, 1
  br label %turn
yes:
  ret i1 true
no:
  ret i1 false
}}
"""

_MAKE = f"""
; Makes the arrays that a call gives back, whose addresses become words; what is given is at %result then, if only in
; parts. 0 where one cannot be made, which is an exception, or lies otherwise than those of earlier calls.
define internal i1 @make_results(ptr %plan, ptr %words, ptr %result) {{
entry:
  %countw = {_word("plan", PLAN_MADE)}
  %count = load i64, ptr %countw
  %makew = {_word("plan", PLAN_MAKE)}
  %make = load ptr, ptr %makew
  %severalw = {_word("plan", PLAN_SEVERAL)}
  %several = load i64, ptr %severalw
  %single = icmp eq i64 %several, 0
  br i1 %single, label %turn, label %tuple
tuple:
  %made = call ptr @PyTuple_New(i64 %count)
  %nomade = icmp eq ptr %made, null
  store ptr %made, ptr %result
  br i1 %nomade, label %no, label %turn
turn:
  %i = phi i64 [ 0, %entry ], [ 0, %tuple ], [ %i1, %next ]
  %all = icmp eq i64 %i, %count
  br i1 %all, label %yes, label %one
one:
  %skip = mul i64 %i, {MAKE_WORDS}
  %record = getelementptr i64, ptr %make, i64 %skip
  %function = load ptr, ptr %record
  %array = call ptr @PyObject_CallNoArgs(ptr %function)
  %failed = icmp eq ptr %array, null
  br i1 %failed, label %no, label %keep
keep:
  br i1 %single, label %alone, label %among
alone:
  store ptr %array, ptr %result
  br label %find
among:
  %whole = load ptr, ptr %result
  %set = call i32 @PyTuple_SetItem(ptr %whole, i64 %i, ptr %array)
  br label %find
find:
  %addressw = {_word("record", MAKE_ADDRESS)}
  %addresses = load ptr, ptr %addressw
  %plain = icmp eq ptr %addresses, null
  br i1 %plain, label %read, label %ask
read:
  %dataw = {_byte("array", ARRAY_DATA)}
  %data = load i64, ptr %dataw
  br label %place
ask:
  %number = call i64 @number_of(ptr %addresses, ptr %array)
  br label %place
place:
  %address = phi i64 [ %data, %read ], [ %number, %ask ]
  %wordw = {_word("record", MAKE_WORD)}
  %at = load i64, ptr %wordw
  %word = getelementptr i64, ptr %words, i64 %at
  store i64 %address, ptr %word
  %modulow = {_word("record", MAKE_MODULO)}
  %modulo = load i64, ptr %modulow
  %low = and i64 %address, 15
  %aligned = icmp eq i64 %low, %modulo
  br i1 %aligned, label %next, label %no
next:
  %i1 = add i64 %i, 1
  br label %turn
yes:
  ret i1 true
no:
  ret i1 false
}}
"""

_PREPARE = f"""
; The stream, and memory for workspaces, become the words before the last one; the object that holds the memory is at
; %memory. 0 where there is an exception.
define internal i1 @prepare(ptr %plan, ptr %stream, ptr %table, ptr %words, ptr %memory) {{
entry:
  %sizew = {_word("plan", PLAN_WORDS)}
  %size = load i64, ptr %sizew
  %end = getelementptr i64, ptr %words, i64 %size
  %streams = getelementptr i64, ptr %end, i64 -3
  %memories = getelementptr i64, ptr %end, i64 -2
  %number = call ptr @PyObject_CallNoArgs(ptr %stream)
  %nonumber = icmp eq ptr %number, null
  br i1 %nonumber, label %error, label %read
read:
  %handle = call ptr @PyLong_AsVoidPtr(ptr %number)
  call void @Py_DecRef(ptr %number)
  store ptr %handle, ptr %streams
  %measurew = {_word("plan", PLAN_MEASURE)}
  %measure = load ptr, ptr %measurew
  %none = icmp eq ptr %measure, null
  br i1 %none, label %done, label %look
look:
  %bytes = call i64 %measure(ptr %words, ptr %table)
  %some = icmp sgt i64 %bytes, 0
  br i1 %some, label %allocate, label %done
allocate:
  %functionw = {_word("plan", PLAN_ALLOCATE)}
  %function = load ptr, ptr %functionw
  %wanted = call ptr @PyLong_FromLongLong(i64 %bytes)
  %pair = call ptr @call_with(ptr %function, ptr %wanted)
  call void @Py_DecRef(ptr %wanted)
  %nopair = icmp eq ptr %pair, null
  br i1 %nopair, label %error, label %given
given:
  %first = call ptr @PyTuple_GetItem(ptr %pair, i64 0)
  %address = call ptr @PyLong_AsVoidPtr(ptr %first)
  store ptr %address, ptr %memories
  store ptr %pair, ptr %memory
  br label %done
done:
  ret i1 true
error:
  ret i1 false
}}
"""

_CALL = f"""
define ptr @quick_call(ptr %self, ptr %args, i64 %given, ptr %keywords) {{
entry:
  %values = alloca [{MAX_PARAMETERS} x ptr]
  %words = alloca [{MAX_WORDS} x i64], align 16
  %variable = alloca ptr
  %memory = alloca ptr
  %result_ = alloca ptr
  store ptr null, ptr %result_
  %number = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %caller = call ptr @PyLong_AsVoidPtr(ptr %number)
  %checksw = {_word("caller", CHECKS)}
  %checks = load i64, ptr %checksw
  %firstw = {_word("caller", CHECK)}
  %first = load ptr, ptr %firstw
  %nonew = {_word("caller", NONE)}
  %none = load ptr, ptr %nonew
  br label %check
check:
  %i = phi i64 [ 0, %entry ], [ %i1, %held ]
  %all = icmp eq i64 %i, %checks
  br i1 %all, label %engines, label %test
test:
  %skip = mul i64 %i, {CHECK_WORDS}
  %record = getelementptr i64, ptr %first, i64 %skip
  %holds = call i32 @holds(ptr %record)
  %i1 = add i64 %i, 1
  switch i32 %holds, label %error [ i32 0, label %fallback
                                    i32 1, label %held ]
held:
  br label %check
engines:
  %enginew = {_word("caller", ENGINE)}
  %engines_ = load ptr, ptr %enginew
  %noengine = icmp eq ptr %engines_, null
  br i1 %noengine, label %arguments, label %context
context:
  %failed = call i32 @PyContextVar_Get(ptr %engines_, ptr null, ptr %variable)
  %bad = icmp ne i32 %failed, 0
  br i1 %bad, label %error, label %release
release:
  %chosen = load ptr, ptr %variable
  call void @Py_DecRef(ptr %chosen)
  br label %arguments
arguments:
  %engine = phi ptr [ %none, %engines ], [ %chosen, %release ]
  %bound = call i1 @bind(ptr %caller, ptr %args, i64 %given, ptr %keywords, ptr %values)
  br i1 %bound, label %search, label %fallback
search:
  %plan = call ptr @find(ptr %caller, ptr %engine, ptr %values, ptr %words)
  %unknown = icmp eq ptr %plan, null
  br i1 %unknown, label %ask, label %pool
ask:
  %pending = call ptr @PyErr_Occurred()
  %raising = icmp ne ptr %pending, null
  br i1 %raising, label %error, label %fallback
pool:
  %ownerw = {_word("plan", PLAN_OWNER)}
  %owner = load ptr, ptr %ownerw  ; another thread may drop the plan meanwhile, but not its owner
  %tablew = {_word("plan", PLAN_TABLE)}
  %tables = load ptr, ptr %tablew
  %table = load ptr, ptr %tables
  %nopool = icmp eq ptr %table, null
  br i1 %nopool, label %drop, label %make
drop:
  call void @Py_DecRef(ptr %owner)
  %useless = load ptr, ptr %result_
  call void @Py_DecRef(ptr %useless)
  br label %fallback
make:
  %madew = {_word("plan", PLAN_MADE)}
  %made = load i64, ptr %madew
  %makes = icmp ne i64 %made, 0
  br i1 %makes, label %results, label %prepare
results:
  %there = call i1 @make_results(ptr %plan, ptr %words, ptr %result_)
  br i1 %there, label %prepare, label %unmade
unmade:
  %why = call ptr @PyErr_Occurred()
  %broken = icmp ne ptr %why, null
  br i1 %broken, label %leave, label %drop
prepare:
  store ptr null, ptr %memory
  %streamw = {_word("plan", PLAN_STREAM)}
  %stream = load ptr, ptr %streamw
  %nostream = icmp eq ptr %stream, null
  br i1 %nostream, label %run, label %extra
extra:
  %prepared = call i1 @prepare(ptr %plan, ptr %stream, ptr %table, ptr %words, ptr %memory)
  br i1 %prepared, label %run, label %leave
run:
  %launchw = {_word("plan", PLAN_LAUNCH)}
  %launch = load ptr, ptr %launchw
  %thread = call ptr @PyEval_SaveThread()
  %status = call i64 %launch(ptr %words, ptr %table)
  call void @PyEval_RestoreThread(ptr %thread)
  %kept = load ptr, ptr %memory
  %nothing_ = icmp eq ptr %kept, null
  br i1 %nothing_, label %launched, label %free
free:
  call void @Py_DecRef(ptr %kept)
  br label %launched
launched:
  %right = icmp eq i64 %status, 0
  br i1 %right, label %told, label %failed_
failed_:
  %undone = icmp sle i64 %status, {UNDONE}
  br i1 %undone, label %drop, label %wrong
told:
  %toldw = {_word("plan", PLAN_TOLD)}
  %tells = load i64, ptr %toldw
  %silent = icmp eq i64 %tells, 0
  br i1 %silent, label %nothing, label %tell
tell:
  %countw = {_word("caller", PARAMETERS)}
  %count = load i64, ptr %countw
  %well = call i1 @tell_of_written(ptr %plan, i64 %count, ptr %values)
  br i1 %well, label %nothing, label %leave
nothing:
  %results_ = load ptr, ptr %result_
  store ptr null, ptr %result_
  %gives = icmp ne ptr %results_, null
  br i1 %gives, label %leave, label %without
without:
  call void @Py_IncRef(ptr %none)
  br label %leave
wrong:
  %failw = {_word("plan", PLAN_FAIL)}
  %fail = load ptr, ptr %failw
  %code = call ptr @PyLong_FromLongLong(i64 %status)
  %raised = call ptr @call_with(ptr %fail, ptr %code)
  call void @Py_DecRef(ptr %code)
  br label %leave
leave:
  %given_ = phi ptr [ %results_, %nothing ], [ %none, %without ], [ %raised, %wrong ], [ null, %tell ],
                    [ null, %extra ], [ null, %unmade ]
  %left = load ptr, ptr %result_
  call void @Py_DecRef(ptr %left)
  call void @Py_DecRef(ptr %owner)
  ret ptr %given_
fallback:
  %fallbackw = {_word("caller", FALLBACK)}
  %python = load ptr, ptr %fallbackw
  %result = call ptr @call_python(ptr %python, ptr %args, i64 %given, ptr %keywords)
  ret ptr %result
error:
  ret ptr null
}}
"""

CALL_TEXT = "".join((_DECLARATIONS, _CALLS, _HOLDS, _BIND, _ARRAY, _KEYED, _ASKED, _FITS, _MATCHES, _TELL, _MAKE,
                     _PREPARE, _CALL))
