"""The rules of the house that no linter knows: sizes, and a sentence on each test."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FUNCTION_LINES = 60
MODULE_LINES = 450

PRODUCT = sorted(
    path
    for folder in ("projector", "schema", "readers/python/src")
    for path in (ROOT / folder).rglob("*.py")
)
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, Function):
            yield node


def lines_of(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_modules_and_functions_stay_small(path: Path) -> None:
    """No function of the product is longer than 60 lines and no module longer than 450."""
    assert len(path.read_text("utf-8").splitlines()) <= MODULE_LINES
    sizes = {function.name: lines_of(function) for function in functions(path)}
    assert {name: size for name, size in sizes.items() if size > FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """Every module of the product begins with a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_every_test_says_what_it_shows(path: Path) -> None:
    """Every test has a docstring: one sentence on the behaviour that it shows."""
    tests = [function for function in functions(path) if function.name.startswith("test_")]
    assert [test.name for test in tests if not ast.get_docstring(test)] == []
