"""What a warm call looks at, in LLVM IR: whether what a kernel has read elsewhere is still so, and whether values are
like those of an earlier call."""

from __future__ import annotations

from tilus.runtime.cpu.call_records import (
    ARRAY,
    ARRAY_DATA,
    ARRAY_DTYPE,
    ARRAY_EXTENTS,
    ARRAY_FLAGS,
    ARRAY_RANK,
    ARRAY_STRIDES,
    AS_RESULT,
    ASKED,
    ATTRIBUTES,
    BOOLEAN,
    CHECK_FORGIVEN,
    CHECK_NAME,
    CHECK_OWNER,
    CHECK_VALUE,
    CONSTANT,
    EQUAL,
    EXACT,
    FLOAT32,
    FLOAT64,
    GUARD_A,
    GUARD_B,
    GUARD_C,
    GUARD_D,
    GUARD_EXTENTS,
    GUARD_TYPE,
    GUARD_WORD,
    IN_CELL,
    IN_DICTIONARY,
    INTEGER,
    KEYED,
    OBJECT_TYPE,
    byte,
    word,
)

HOLDS = f"""
; Whether an object is still where it was: 1, 0, or -1 with an exception.
define internal i32 @holds(ptr %check) {{
entry:
  %kind = load i64, ptr %check
  %ownerw = {word("check", CHECK_OWNER)}
  %owner = load ptr, ptr %ownerw
  %namew = {word("check", CHECK_NAME)}
  %name = load ptr, ptr %namew
  %valuew = {word("check", CHECK_VALUE)}
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
  %forgivenw = {word("check", CHECK_FORGIVEN)}
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

_ARRAY = f"""
; Whether an array is as one before, but for its address, which becomes a word.
define internal i1 @array_fits(ptr %guard, ptr %value, ptr %words) {{
entry:
  %ranka = {byte("value", ARRAY_RANK)}
  %rank32 = load i32, ptr %ranka
  %rank = sext i32 %rank32 to i64
  %dtypea = {byte("value", ARRAY_DTYPE)}
  %dtype = load ptr, ptr %dtypea
  %flagsa = {byte("value", ARRAY_FLAGS)}
  %flags32 = load i32, ptr %flagsa
  %flags = zext i32 %flags32 to i64
  %dataa = {byte("value", ARRAY_DATA)}
  %data = load i64, ptr %dataa
  %wanteda = {word("guard", GUARD_A)}
  %wanted = load ptr, ptr %wanteda
  %ranksa = {word("guard", GUARD_B)}
  %ranks = load i64, ptr %ranksa
  %moduloa = {word("guard", GUARD_C)}
  %modulo = load i64, ptr %moduloa
  %neededa = {word("guard", GUARD_D)}
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
  %extentsa = {byte("value", ARRAY_EXTENTS)}
  %extents = load ptr, ptr %extentsa
  %stridesa = {byte("value", ARRAY_STRIDES)}
  %strides = load ptr, ptr %stridesa
  %known = {word("guard", GUARD_EXTENTS)}
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
  %placea = {word("guard", GUARD_WORD)}
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
  %functionw = {word("guard", GUARD_A)}
  %function = load ptr, ptr %functionw
  %wantedw = {word("guard", GUARD_B)}
  %wanted = load ptr, ptr %wantedw
  %refusalw = {word("guard", GUARD_C)}
  %refusal = load ptr, ptr %refusalw
  %nonew = {word("guard", GUARD_EXTENTS)}
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
  %pairs = {word("guard", GUARD_EXTENTS + 7)}
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
  %wrappedw = {word("guard", GUARD_EXTENTS + 6)}
  %wrapped = load ptr, ptr %wrappedw
  %is = call ptr @call_with(ptr %wrapped, ptr %value)
  %unknown = icmp eq ptr %is, null
  br i1 %unknown, label %clear, label %answer
answer:
  call void @Py_DecRef(ptr %is)
  %truew = {word("guard", GUARD_EXTENTS)}
  %true_ = load ptr, ptr %truew
  %wraps = icmp eq ptr %is, %true_
  br i1 %wraps, label %no, label %guards
guards:
  %checkw = {word("guard", GUARD_A)}
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
  %addressw = {word("guard", GUARD_B)}
  %addresses = load ptr, ptr %addressw
  %moduloa = {word("guard", GUARD_C)}
  %modulo = load i64, ptr %moduloa
  %address = call i64 @number_of(ptr %addresses, ptr %value)
  store i64 %address, ptr %word
  %low = and i64 %address, 15
  %aligned = icmp eq i64 %low, %modulo
  br i1 %aligned, label %size, label %no
size:
  %spanw = {word("guard", GUARD_EXTENTS + 1)}
  %span = load i64, ptr %spanw
  %empty = icmp eq i64 %span, 0
  br i1 %empty, label %yes, label %look
look:
  %bytesw = {word("guard", GUARD_EXTENTS + 2)}
  %bytes = load i64, ptr %bytesw
  %firstw = {word("guard", GUARD_EXTENTS + 3)}
  %first = load ptr, ptr %firstw
  %storagew = {word("guard", GUARD_EXTENTS + 4)}
  %storages = load ptr, ptr %storagew
  %sizew = {word("guard", GUARD_EXTENTS + 5)}
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
  %typea = {byte("value", OBJECT_TYPE)}
  %type = load ptr, ptr %typea
  %wantedw = {word("guard", GUARD_TYPE)}
  %wanted = load ptr, ptr %wantedw
  %placew = {word("guard", GUARD_WORD)}
  %place = load i64, ptr %placew
  %word = getelementptr i64, ptr %words, i64 %place
  %aw = {word("guard", GUARD_A)}
  %a = load i64, ptr %aw
  %bw = {word("guard", GUARD_B)}
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

GUARDS = HOLDS + _ARRAY + _KEYED + _ASKED + _FITS

__all__ = ["GUARDS"]
