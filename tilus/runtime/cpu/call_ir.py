"""The warm call of a kernel in LLVM IR: a function that Python calls as one of its own (METH_FASTCALL).

It binds the arguments, compares them with the plans of the last calls, fills in addresses and scalars, and launches
without Python's lock. Whatever it does not know goes on to the fallback, a Python function of the same arguments,
which knows all, and says what is wrong. Nothing here raises but what that or a failed launch raises.

``call_records.py`` says what the records are that it reads.
"""

from __future__ import annotations

from tilus.runtime.cpu.call_records import (
    CHECK,
    CHECK_WORDS,
    CHECKS,
    DEFAULTS,
    ENGINE,
    FALLBACK,
    MAX_PARAMETERS,
    MAX_PLANS,
    MAX_WORDS,
    NAMES,
    NONE,
    PAIR_WORDS,
    PARAMETERS,
    PLAN_ENGINE,
    PLAN_FAIL,
    PLAN_GUARDS,
    PLAN_LAUNCH,
    PLAN_MADE,
    PLAN_OWNER,
    PLAN_PAIR,
    PLAN_PAIRS,
    PLAN_STREAM,
    PLAN_TABLE,
    PLAN_TEMPLATE,
    PLAN_TOLD,
    PLAN_WORDS,
    PLANS,
    UNDONE,
    word,
)
from tilus.runtime.cpu.guards_ir import GUARDS
from tilus.runtime.cpu.results_ir import RESULTS

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

_BIND = f"""
; One value for each parameter; 0 where the arguments are not so.
define internal i1 @bind(ptr %caller, ptr %args, i64 %given, ptr %keywords, ptr %values) {{
entry:
  %countw = {word("caller", PARAMETERS)}
  %count = load i64, ptr %countw
  %namesw = {word("caller", NAMES)}
  %names = load ptr, ptr %namesw
  %defaultsw = {word("caller", DEFAULTS)}
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

_MATCHES = f"""
; Whether two arrays of a pair lie apart.
define internal i1 @apart(ptr %pair, ptr %words) {{
  %i = load i64, ptr %pair
  %jw = {word("pair", 1)}
  %j = load i64, ptr %jw
  %lowiw = {word("pair", 2)}
  %lowi = load i64, ptr %lowiw
  %highiw = {word("pair", 3)}
  %highi = load i64, ptr %highiw
  %lowjw = {word("pair", 4)}
  %lowj = load i64, ptr %lowjw
  %highjw = {word("pair", 5)}
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
  %sizew = {word("plan", PLAN_WORDS)}
  %size = load i64, ptr %sizew
  %bytes = shl i64 %size, 3
  %templatew = {word("plan", PLAN_TEMPLATE)}
  %template = load ptr, ptr %templatew
  %guardsw = {word("plan", PLAN_GUARDS)}
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
  %pairsw = {word("plan", PLAN_PAIRS)}
  %pairs = load i64, ptr %pairsw
  %firstw = {word("plan", PLAN_PAIR)}
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
  %countw = {word("caller", PARAMETERS)}
  %count = load i64, ptr %countw
  %plans = {word("caller", PLANS)}
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
  %enginew = {word("plan", PLAN_ENGINE)}
  %wanted = load ptr, ptr %enginew
  %same = icmp eq ptr %wanted, %engine
  br i1 %same, label %look, label %next
look:
  %ownerw = {word("plan", PLAN_OWNER)}
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
  %checksw = {word("caller", CHECKS)}
  %checks = load i64, ptr %checksw
  %firstw = {word("caller", CHECK)}
  %first = load ptr, ptr %firstw
  %nonew = {word("caller", NONE)}
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
  %enginew = {word("caller", ENGINE)}
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
  %ownerw = {word("plan", PLAN_OWNER)}
  %owner = load ptr, ptr %ownerw  ; another thread may drop the plan meanwhile, but not its owner
  %tablew = {word("plan", PLAN_TABLE)}
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
  %madew = {word("plan", PLAN_MADE)}
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
  %streamw = {word("plan", PLAN_STREAM)}
  %stream = load ptr, ptr %streamw
  %nostream = icmp eq ptr %stream, null
  br i1 %nostream, label %run, label %extra
extra:
  %prepared = call i1 @prepare(ptr %plan, ptr %stream, ptr %table, ptr %words, ptr %memory)
  br i1 %prepared, label %run, label %leave
run:
  %launchw = {word("plan", PLAN_LAUNCH)}
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
  %toldw = {word("plan", PLAN_TOLD)}
  %tells = load i64, ptr %toldw
  %silent = icmp eq i64 %tells, 0
  br i1 %silent, label %nothing, label %tell
tell:
  %countw = {word("caller", PARAMETERS)}
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
  %failw = {word("plan", PLAN_FAIL)}
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
  %fallbackw = {word("caller", FALLBACK)}
  %python = load ptr, ptr %fallbackw
  %result = call ptr @call_python(ptr %python, ptr %args, i64 %given, ptr %keywords)
  ret ptr %result
error:
  ret ptr null
}}
"""

CALL_TEXT = "".join((_DECLARATIONS, _CALLS, GUARDS, _BIND, _MATCHES, RESULTS, _CALL))

__all__ = ["API", "CALL_TEXT"]
