"""Lists, dicts and objects that a kernel changes under control flow at run time mean what they mean in Python, or are
refused at the line."""

from __future__ import annotations

import collections
import copy
import functools
from types import SimpleNamespace
from typing import Any

import pytest

import tilus as tl
from tests.lang.agree import ALL, agree, refused


def set_first(xs: list[Any], value: Any) -> None:
    xs[0] = value


def swap(xs: list[Any]) -> None:
    xs[0], xs[1] = xs[1], xs[0]


def set_if(xs: list[Any], n: Any) -> None:
    if n > 2:
        xs[0] = n


@tl.jit
def methods_under_if(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    xs, d = [1, 2, 3], {"a": 1, "b": 2}
    q = collections.deque([5, 6, 7])
    if n > 2:
        xs.reverse()
        d.update(a=7)
        q.rotate(1)
    o[0] = xs[0]
    o[1] = d["a"] * 10 + d["b"]
    o[2] = q[0]


@pytest.mark.parametrize(("n", "want"), [(1, [1, 12, 5]), (3, [3, 72, 7])])
def test_methods_under_an_if(n: int, want: list[int]) -> None:
    agree(methods_under_if, want, n, engines=ALL)


@tl.jit
def helpers(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    x = [n, 2, 3]
    for _ in range(n):
        x[1] = x[1] + x[0]
        set_first(x, 9)
    o[0] = x[1]
    y = [1, n, 5]
    if n > 2:
        set_first(y, 8)
        swap(y)
    o[1] = y[0] * 10 + y[1]
    z = [1, 2]
    set_if(z, n)
    o[2] = z[0]


@pytest.mark.parametrize(("n", "want"), [(4, [2 + 4 + 27, 48, 4]), (1, [3, 11, 1]), (0, [2, 10, 1])])
def test_helpers_that_change_their_argument(n: int, want: list[int]) -> None:
    agree(helpers, want, n, engines=ALL)


@tl.jit
def aliases(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    acc = [0, 0]
    alias, pair = acc, (acc, [acc])
    if n > 1:
        acc[0] = 5
    for _ in range(n):
        pair[1][0][1] += 2
    o[0] = alias[0]
    o[1] = acc[1]
    o[2] = pair[0][0] + pair[1][0][1]


@pytest.mark.parametrize(("n", "want"), [(2, [5, 4, 9]), (1, [0, 2, 2])])
def test_aliases(n: int, want: list[int]) -> None:
    agree(aliases, want, n, engines=ALL)


@tl.jit
def nested(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    a = [1, 2]
    table = {"rows": [a, a, [n, n]], "count": 0}
    if n > 1:
        table["rows"][2][0] += 10
        a[0] = 7
    k = 0
    while k < n:
        table["rows"][0][1] = table["rows"][0][1] * 2
        table["count"] += 1
        k += 1
    o[0] = table["rows"][1][0] * 100 + table["rows"][1][1]
    o[1] = table["rows"][2][0]
    o[2] = table["count"]


@pytest.mark.parametrize(("n", "want"), [(2, [708, 12, 2]), (1, [104, 1, 1])])
def test_lists_in_dicts(n: int, want: list[int]) -> None:
    agree(nested, want, n, engines=ALL)


class Counter:
    def __init__(self, start: Any) -> None:
        self.value = start
        self.steps = [0, 0]

    def add(self, amount: Any) -> Counter:
        self.value = self.value + amount
        self.steps[0] += 1
        return self


@tl.jit
def instances(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    c = Counter(3)
    same = c
    if n > 1:
        c.add(4)
    for _ in range(n):
        same.add(1)
    s = SimpleNamespace(a=1)
    if n > 1:
        s.a = 6
    o[0] = c.value
    o[1] = c.steps[0]
    o[2] = s.a


@pytest.mark.parametrize(("n", "want"), [(2, [9, 3, 6]), (1, [4, 1, 1])])
def test_fields_of_objects(n: int, want: list[int]) -> None:
    agree(instances, want, n)


@tl.jit
def changed_by_a_condition(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    c, xs = Counter(0), [n.to(tl.i64), 0]
    while c.add(1).value < 4 and put_last(xs) < 9:
        xs[0] += 1
    o[0] = c.value
    o[1] = xs[0]
    o[2] = xs[1]


def put_last(xs: list[Any]) -> Any:
    xs[1] = xs[0] * 2
    return xs[1]


@pytest.mark.parametrize(("n", "want"), [(1, [4, 4, 6]), (4, [2, 5, 10])])
def test_conditions_of_loops_that_change_objects(n: int, want: list[int]) -> None:
    agree(changed_by_a_condition, want, n, engines=ALL)


@tl.jit
def in_place_operators(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    xs = [1]
    alias = xs
    xs += [2, 3]
    d = collections.defaultdict(int)
    d["k"] += 4
    d["k"] += n
    o[0] = len(alias)
    o[1] = d["k"]
    o[2] = sum(x for x in xs)


def test_operators_in_place() -> None:
    agree(in_place_operators, [3, 6, 6], 2)


@tl.jit
def grows_at_compile_time(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    s = [1, 2]
    while len(s) < 4:
        s.append(0)
    for k in range(3):
        s.append(k)
        if k == 1:
            break
    for _ in range(n):
        s[3] = s[3] + s[0]
        s[0] = s[0] * 2
    o[0] = s[3] + len(s)
    o[1] = s[5]


def test_loops_that_grow_a_list_while_compiling() -> None:
    agree(grows_at_compile_time, [7 + 6, 1], 3)


@tl.jit
def indexed_by_loops(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    m = [[n * (i + j) for j in range(2)] for i in range(2)]
    for i in range(2):
        for j in range(2):
            if n > i:
                m[i][j] = m[i][j] + i
    o[0] = sum(map(sum, m))
    o[1] = m[1][1]


@pytest.mark.parametrize(("n", "want"), [(3, [14, 7]), (1, [4, 2])])
def test_loops_of_known_iterations_index_lists(n: int, want: list[int]) -> None:
    agree(indexed_by_loops, want, n)


@tl.jit
def rebound(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    state = [n, 0]
    for _ in range(n):
        state = [state[0] + 1, state[1] + state[0]]
    if n > 2:
        state = [state[1], state[0]]
    state[0] = state[0] + 100
    o[0] = state[0]
    o[1] = state[1]


@pytest.mark.parametrize(("n", "want"), [(3, [100 + 3 + 4 + 5, 6]), (1, [102, 1])])
def test_names_bound_to_new_lists(n: int, want: list[int]) -> None:
    agree(rebound, want, n, engines=ALL)


@tl.jit
def rebound_on_one_path(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    n = n.to(tl.i64)
    xs, ys = [n, 1], [7, n]
    for _ in range(n):
        if n > 2:
            ys[0] += 3
            xs = [ys[0], n]
        else:
            xs.reverse()
    o[0] = xs[0]
    o[1] = xs[1]
    o[2] = ys[0]
    for i in range(n):
        xs.insert(0, xs.pop())
        if i < 1:
            xs = [xs[0] + 1, xs[1]]
        else:
            xs[0] += 10
    o[3] = xs[0]
    o[4] = xs[1]


@pytest.mark.parametrize(("n", "want"), [(2, [2, 1, 7, 12, 2]), (1, [1, 1, 7, 2, 1]), (3, [16, 3, 16, 14, 26])])
def test_a_name_bound_anew_on_one_path(n: int, want: list[int]) -> None:
    agree(rebound_on_one_path, want, n)


@tl.jit
def one_of_two_dead(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    if n > 1:
        x = y = [n, 2]
    else:
        x = y = [3, 4]
    x[0] += 1
    o[0] = y[0]
    o[1] = x[1]


@pytest.mark.parametrize(("n", "want"), [(2, [3, 2]), (1, [4, 4])])
def test_two_names_of_one_new_list(n: int, want: list[int]) -> None:
    agree(one_of_two_dead, want, n)


@tl.jit
def appended_in_loop(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    acc = [0]
    for _ in range(n):
        acc.append(acc[-1] + 1)
    o[0] = acc[-1]


@tl.jit
def popped_in_if(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    acc = [1, 2, 3]
    if n > 10:
        acc.pop()
    o[0] = acc[-1]


@tl.jit
def key_in_if(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    d = {"a": 1}
    if n > 10:
        d["b"] = 7
    o[0] = len(d)


@tl.jit
def set_in_if(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    seen = {1, 2}
    if n > 10:
        seen.add(3)
    o[0] = len(seen)


@tl.jit
def in_helper(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    acc = [1]
    if n > 10:
        list.append(acc, 5)
    o[0] = acc[-1]


@tl.jit
def one_of_two(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    a, b = [1], [2]
    x = a if n > 1 else b
    x[0] = 9
    o[0] = a[0]


@tl.jit
def one_of_two_other(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    a, b = [1], [2]
    x = a if n > 1 else b
    a[0] = 9
    o[0] = x[0]


@tl.jit
def rebound_alias(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    x = [0, 0]
    keep = x
    for _ in range(n):
        x[0] = 5
        x = [x[0] + 1, 2]
    o[0] = keep[0]


@tl.jit
def aliased_in_a_loop(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    x, y = [0, 0], [1, 2]
    for _ in range(2):
        for _ in range(n):
            x = y
    y[0] = 5
    o[0] = x[0]


@tl.jit
def copied_while_changed(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    y = [1, 2]
    x = y
    for i in range(n):
        y[0] = 7
        o[i] = x[0]
        x = [3, 4]


@tl.jit
def left_in_a_group(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    xs = [n]
    with tl.group(0, 1):
        xs[0] = n + 1
    o[0] = xs[0]


@tl.jit
def removed_in_while(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    stack = [1, 2, 3]
    k = n + 0
    while k > 0 and stack.pop() > 0:
        k -= 1
    o[0] = k


@tl.jit
def per_element(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    seen = []
    tl.store(o, 0, tl.map(lambda v: (seen.append(1), v + 1)[1], tl.arange(0, 4).to(tl.i64)))


@tl.jit
def advanced(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    it = iter([1, 2, 3])
    if n > 1:
        o[0] = next(it)
    o[1] = next(it)


@pytest.mark.parametrize(("kernel", "code", "line"), [
    (appended_in_loop, "E0110", "acc.append(acc[-1] + 1)"), (popped_in_if, "E0110", "acc.pop()"),
    (key_in_if, "E0110", 'd["b"] = 7'), (set_in_if, "E0110", "seen.add(3)"),
    (in_helper, "E0110", "list.append(acc, 5)"),
    (one_of_two, "E0303", "x[0] = 9"), (one_of_two_other, "E0303", "a[0] = 9"), (rebound_alias, "E0303", "x[0] = 5"),
    (aliased_in_a_loop, "E0303", "y[0] = 5"), (copied_while_changed, "E0303", "y[0] = 7"),
    (left_in_a_group, "E0110", "o[0] = xs[0]"),
    (removed_in_while, "E0110", "while k > 0 and stack.pop() > 0:"),
    (per_element, "E0303", "tl.store(o, 0, tl.map(lambda v: (seen.append(1), v + 1)[1], tl.arange(0, 4)"),
    (advanced, "E0113", "o[0] = next(it)"),
])
def test_what_cannot_be_carried_is_refused_at_its_line(kernel: Any, code: str, line: str) -> None:
    refused(kernel, code, line, 3)


SHARED: list[int] = []
TABLES = {"rows": [1, 2, 3]}


@functools.lru_cache
def cached_table() -> list[int]:
    return [1, 2, 3]


def shared_by_default(x: Any, acc: list[Any] = []) -> Any:  # noqa: B006
    acc.append(x)
    return len(acc)


def changes_an_alias(x: Any) -> Any:
    rows = TABLES["rows"]
    rows[0] = 5
    return rows[0] + x


@tl.jit
def global_append(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    SHARED.append(1)
    o[0] = len(SHARED)


@tl.jit
def global_element(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = changes_an_alias(n)


@tl.jit
def cached_changed(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    table = cached_table()
    table[0] = 5
    o[0] = table[0]


@tl.jit
def default_changed(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = shared_by_default(n)


@pytest.mark.parametrize(("kernel", "line"), [
    (global_append, "SHARED.append(1)"), (global_element, "rows[0] = 5"), (cached_changed, "table[0] = 5"),
    (default_changed, "acc.append(x)"),
])
def test_objects_from_outside_are_not_changed(kernel: Any, line: str) -> None:
    before = copy.deepcopy((SHARED, TABLES, cached_table()))
    refused(kernel, "E0303", line, 3)
    assert (SHARED, TABLES, cached_table()) == before


@tl.jit
def copied_from_outside(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    rows = list(TABLES["rows"])
    if n > 1:
        rows[0] = 9
    o[0] = rows[0] + TABLES["rows"][0]


@pytest.mark.parametrize(("n", "want"), [(2, 10), (1, 2)])
def test_a_copy_of_an_outer_list(n: int, want: int) -> None:
    agree(copied_from_outside, [want], n)


class Settings:
    def __init__(self, width: int) -> None:
        self.width = width
        self.calls = 0

    @functools.cached_property
    def area(self) -> int:
        return self.width * 10

    def size(self) -> int:
        return self.area + 1

    def counted(self) -> int:
        self.calls += 1
        return self.calls


SETTINGS = Settings(4)


@tl.jit
def remembering(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = n + SETTINGS.size() + SETTINGS.area


@tl.jit
def counting(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = n + SETTINGS.counted()


def test_objects_from_outside_may_remember_and_not_count() -> None:
    for _ in range(3):
        agree(remembering, [3 + 41 + 40], 3, engines=("interpret", "cpu", "python"))
    refused(counting, "E0303", "o[0] = n + SETTINGS.counted()", 3)
    assert SETTINGS.calls == 0


@tl.jit
def one_list_becomes_two(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    xs = [n, 1]
    ys = xs
    for _ in range(2):
        ys = list(ys)
        xs = [(3 - n) % 7, xs[1]]
    o[0] = xs[0]
    o[1] = ys[0]


@tl.jit
def changed_while_it_is_one(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    xs = [n, 1]
    ys = xs
    for _ in range(2):
        xs[0] = xs[0] + 1
        ys = list(ys)
        xs = [ys[0], xs[1]]
    o[0] = ys[0]


@pytest.mark.parametrize("n", [0, 9])
def test_names_of_one_list_are_two_after_a_loop(n: int) -> None:
    agree(one_list_becomes_two, [(3 - n) % 7, n], n, engines=ALL)


def test_a_list_that_is_one_only_in_the_first_iteration_is_not_changed() -> None:
    refused(changed_while_it_is_one, "E0303", "xs[0] = xs[0] + 1", 3)
