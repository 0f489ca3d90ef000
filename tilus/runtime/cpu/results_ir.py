"""What a warm call makes, in LLVM IR: new arrays that it gives back, memory that a launch needs; who is told of arrays
that have been written."""

from __future__ import annotations

from tilus.runtime.cpu.call_records import (
    ARRAY_DATA,
    GUARD_D,
    KEYED,
    MAKE_ADDRESS,
    MAKE_MODULO,
    MAKE_WORD,
    MAKE_WORDS,
    PLAN_ALLOCATE,
    PLAN_GUARDS,
    PLAN_MADE,
    PLAN_MAKE,
    PLAN_MEASURE,
    PLAN_SEVERAL,
    PLAN_WORDS,
    byte,
    word,
)

_TELL = f"""
; Calls the functions that are told of arrays that have been written; 0 where one has raised an exception.
define internal i1 @tell_of_written(ptr %plan, i64 %count, ptr %values) {{
entry:
  %guardsw = {word("plan", PLAN_GUARDS)}
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
  %functionw = {word("guard", GUARD_D)}
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
  %countw = {word("plan", PLAN_MADE)}
  %count = load i64, ptr %countw
  %makew = {word("plan", PLAN_MAKE)}
  %make = load ptr, ptr %makew
  %severalw = {word("plan", PLAN_SEVERAL)}
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
  %addressw = {word("record", MAKE_ADDRESS)}
  %addresses = load ptr, ptr %addressw
  %plain = icmp eq ptr %addresses, null
  br i1 %plain, label %read, label %ask
read:
  %dataw = {byte("array", ARRAY_DATA)}
  %data = load i64, ptr %dataw
  br label %place
ask:
  %number = call i64 @number_of(ptr %addresses, ptr %array)
  br label %place
place:
  %address = phi i64 [ %data, %read ], [ %number, %ask ]
  %wordw = {word("record", MAKE_WORD)}
  %at = load i64, ptr %wordw
  %word = getelementptr i64, ptr %words, i64 %at
  store i64 %address, ptr %word
  %modulow = {word("record", MAKE_MODULO)}
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
  %sizew = {word("plan", PLAN_WORDS)}
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
  %measurew = {word("plan", PLAN_MEASURE)}
  %measure = load ptr, ptr %measurew
  %none = icmp eq ptr %measure, null
  br i1 %none, label %done, label %look
look:
  %bytes = call i64 %measure(ptr %words, ptr %table)
  %some = icmp sgt i64 %bytes, 0
  br i1 %some, label %allocate, label %done
allocate:
  %functionw = {word("plan", PLAN_ALLOCATE)}
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

RESULTS = _TELL + _MAKE + _PREPARE

__all__ = ["RESULTS"]
