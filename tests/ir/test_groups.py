"""The operation of thread groups: its text, what it refuses, and what it says of its regions."""

import pytest

from tilus.diagnostics import InternalError, UserError
from tilus.ir.core import Block
from tilus.ir.ops import Groups, NamedBarrier, Yield
from tilus.ir.ops.groups import executing_warps
from tilus.ir.parser import parse_module
from tilus.ir.printer import print_module
from tilus.ir.verifier import verify_module

TEXT = """module {level="tile", form=[], target=""}
kernel @k() {} {
  groups() {warps=[[0, 2], [2, 1], [1, 3]]} ^bodies() {
    sync()
    yield(values=[])
  } ^bodies() {
    named_barrier() {id=1, warps=1}
    yield(values=[])
  } ^bodies() {
    yield(values=[])
  }
  yield(values=[])
}
"""


def groups_of(text: str = TEXT) -> Groups:
    op = parse_module(text).kernels[0].body.ops[0]
    assert isinstance(op, Groups)
    return op


def group(*ops: object) -> Block:
    body = Block()
    body.ops = [*ops, Yield(())]  # type: ignore[list-item]
    return body


def test_round_trip() -> None:
    module = parse_module(TEXT)
    verify_module(module)
    assert print_module(module) == TEXT
    module.kernels[0] = module.kernels[0].clone()
    assert print_module(module) == TEXT


def test_a_region_names_its_field() -> None:
    op = groups_of()
    assert [name for name, _ in op.named_regions()] == ["bodies"] * 3
    assert tuple(op.regions) == op.bodies
    assert [len(list(region.walk())) for region in op.bodies] == [2, 2, 1]


@pytest.mark.parametrize(("change", "message"), [
    (("[[0, 2], [2, 1], [1, 3]]", "[[0, 2], [2, 1]]"), "groups: 2 ranges of warps for 3 regions"),
    (("[2, 1]", "[2, 0]"), "groups: a group of 0 warps"),
    (("[2, 1]", "[31, 2]"), "groups: a group of warps 31 to 32: a block has at most 32"),
    (("[2, 1]", "[-1, 2]"), "groups: a group of warps -1 to 0: a block has at most 32"),
    (("[2, 1]", "[2]"), "groups: the warps of a group are two numbers"),
    (("[2, 1]", "2"), "groups: the warps of a group are two numbers"),
    (("sync()", "groups() {warps=[[0, 1]]} ^bodies() {\nyield(values=[])\n}"), "a thread group stands inside another"),
    (("^bodies", "^body"), "groups has no region 'body'"),
    (("{warps=[[0, 2], [2, 1], [1, 3]]} ", ""), "missing|warps"),
])
def test_the_parser_says_what_is_wrong(change: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        groups_of(TEXT.replace(*change))
    assert caught.value.diagnostics[0].code == "E0801"


def test_one_region_at_least() -> None:
    with pytest.raises(UserError, match="there is no region"):
        groups_of(TEXT[:TEXT.index("  groups")] + "  groups() {warps=[]}\n  yield(values=[])\n}\n")


def test_a_field_of_one_region_has_one() -> None:
    text = TEXT.replace("groups() {warps=[[0, 2], [2, 1], [1, 3]]}", "%c = const() {value=true, dtype=bool} : bool\n"
                        "if(condition=%c)").replace("^bodies", "^then")
    with pytest.raises(UserError, match="if has one region 'then'"):
        parse_module(text)


def test_the_verifier_asks_for_terminators_and_counts_regions() -> None:
    module = parse_module(TEXT)
    groups = module.kernels[0].body.ops[0]
    assert isinstance(groups, Groups)
    groups.bodies[1].ops.pop()
    with pytest.raises(InternalError, match="a region does not end in a terminator"):
        verify_module(module)
    groups.bodies = groups.bodies[:1]
    with pytest.raises(InternalError, match="3 ranges of warps for 1 regions"):
        verify_module(module)


def test_values_of_a_group_are_its_own() -> None:
    text = TEXT.replace("sync()", "%n = const() {value=1, dtype=i64} : i64").replace(
        "named_barrier() {id=1, warps=1}", 'print(values=[%n]) {format="{}"}')
    with pytest.raises(InternalError, match="not defined before its use"):
        verify_module(parse_module(text))


def test_groups_with_warps_in_common_are_in_order() -> None:
    op = groups_of()
    assert [op.before(i) for i in range(3)] == [[], [], [0, 1]]


def test_executing_warps() -> None:
    op = groups_of()
    assert [warps for _, warps in executing_warps(op, None)] == [(0, 2), (2, 1), (1, 3)]
    assert list(executing_warps(Yield(()), (0, 4))) == []


@pytest.mark.parametrize(("barrier", "sequential"), [
    (NamedBarrier(1, 2), False), (NamedBarrier(1, 1), True), (NamedBarrier(1, 2, "arrive"), True),
])
def test_groups_that_wait_for_others(barrier: NamedBarrier, sequential: bool) -> None:
    assert Groups(((0, 1), (1, 1)), (group(), group(barrier))).is_sequential == sequential
