"""Random tile programs: engines agree to the bit on integers and determined floats, on the rest within a bound."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.generator import generate
from tests.fuzz.harness import check, check_program
from tests.fuzz.program import Program

GPU = ("simulate:sm_80:cuda", "simulate:sm_80:ptx")
CHUNK = 10
REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.json"))


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("chunk", range(8))
def test_interpreter_and_cpu_agree(chunk: int) -> None:
    found = [d for seed in range(CHUNK * chunk, CHUNK * (chunk + 1)) for d in check(seed, ["cpu"])]
    assert not found, "\n\n".join(map(str, found))


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("chunk", range(4))
def test_the_gpu_routes_agree(chunk: int) -> None:
    found = [d for seed in range(1000 + CHUNK * chunk, 1000 + CHUNK * (chunk + 1)) for d in check(seed, GPU)]
    assert not found, "\n\n".join(map(str, found))


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("chunk", range(20))
def test_passes_and_the_python_engine_agree(chunk: int) -> None:
    seeds = range(2000 + CHUNK * chunk, 2000 + CHUNK * (chunk + 1))
    found = [d for seed in seeds for d in check(seed, ["python", "passes:sm_80"])]
    assert not found, "\n\n".join(map(str, found))


@pytest.mark.sweep
@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda p: p.stem)
@pytest.mark.parametrize("engine", ["cpu", "python", "passes:sm_80", *GPU])
def test_programs_that_failed_once(engine: str, path: Path) -> None:
    found = check_program(Program.from_json(path.read_text()), [engine])
    assert not found, "\n\n".join(map(str, found))


def test_seeds_are_reproducible() -> None:
    for seed in range(50):
        assert generate(seed).source == generate(seed).source


def test_the_programs_are_varied(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    for seed in range(1600):
        counts.update(generate(seed).counts)
    with capsys.disabled():
        print("\nfuzzer, 1600 programs: " + ", ".join(f"{name} {n}" for name, n in sorted(counts.items())))
    for name in ("mask", "mask of data", "other", "dot f16", "dot f32", "dot i8", "reduce argmax", "loop break",
                 "loop while", "if else", "map early", "gather", "scatter", "where", "array strided",
                 "array zero", "view nested", "view dropped", "shape insert", "shape take", "rank 3", "convert layout",
                 "shared memory", "ring of copies", "store then load", "combine scan", "stored masked", "dot of dot",
                 "dimension number", "dimension shared", "multiply-add", "shape parts", "loop over a table",
                 "recurrence f32", "products of squares", "workspace", "workspace of zeros", "groups side by side",
                 "groups in a loop", "groups that hand on", "groups with warps in common", "groups after groups",
                 "rows gathered", "rows scattered", "rows of a staged loop", "ceiling division",
                 "dot with a spread accumulator",
                 "float //", "atomic float max", "narrowed to a float", "narrowed to an integer",
                 "widened from a codebook to an integer", "from a float to an integer", "codes as another type",
                 "product with weights that become f16 staged", "loop over packed tiles staged",
                 "packed array in place", "groups that share bytes", "copy of packed elements",
                 "ring of copies of packed elements",
                 "packed elements of shared memory replaced", "loop that carries packed tiles",
                 "helper of packed elements", "packed rows of a staged loop",
                 "fused contraction of 2", "fused sum of all", "fused sum along 0 of 2"):
        assert counts[name] >= 3, name
    for kind in ("constant", "scalar"):
        assert len({name for name in counts if name.startswith(f"{kind} ")}) >= 10
    assert counts["program with arrays of types for storage"] >= 1600 // 3
    determined, rest = counts["result determined"], counts["result within a bound"]
    assert 0.02 < rest / (determined + rest) < 0.7


def test_every_mutant_has_its_place() -> None:
    from tests.fuzz.mutants import MUTANTS
    from tests.fuzz.mutants_planted import function_at

    assert len(MUTANTS) >= 60
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert callable(mutant.change(function_at(mutant.place))), mutant.name


@pytest.mark.parametrize("place", ["tilus.lowering.simplify:_wrapped", "tilus.lowering.simplified:_wrap", "pass:simply",
                                   "tilus.lowering.simplify:_COMPARE"])
def test_places_that_are_none(place: str) -> None:
    from tests.fuzz.mutants_planted import function_at

    with pytest.raises(LookupError, match=place):
        function_at(place)


@pytest.mark.slow
def test_every_mutant_changes_something() -> None:
    """In texts of passes or the code of a kernel: a mutant of which nothing is seen stands for no bug."""
    command = [sys.executable, "-m", "tests.fuzz.mutants", "--check"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert re.fullmatch(r"all of \d+ mutants change something\n", done.stdout), done.stdout + done.stderr


def test_programs_are_shared_among_processes() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--count", "16", "--engines", "python", "--jobs", "2", "--brief"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert re.search(r"^16 programs, 0 disagreements", done.stdout, re.MULTILINE), done.stderr
