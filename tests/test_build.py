"""What is tested is what is meant: the sources, or with `VAN_TESTED_BUILD=compiled` the wheel that was installed."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import van
from van.router.version import build

ROOT = Path(__file__).parent.parent
TESTED = os.environ.get("VAN_TESTED_BUILD", "pure")


def hook() -> dict[str, list[str]]:
    """What `pyproject.toml` says of compiling."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    return found


def compilable() -> list[str]:
    """The modules of the packages that are compiled, but for those that stay interpreted."""
    files = [file for package in hook()["packages"] for file in sorted((ROOT / package).rglob("*.py"))]
    paths = [file.relative_to(ROOT) for file in files if file.name != "__init__.py"]
    return [".".join(path.with_suffix("").parts) for path in paths if path.as_posix() not in hook()["interpreted"]]


def test_the_build_that_is_tested() -> None:
    assert build() == TESTED


@pytest.mark.parametrize("module", compilable())
def test_a_module_is_an_extension_in_the_compiled_build_only(module: str) -> None:
    file = str(importlib.import_module(module).__file__)
    assert file.endswith(tuple(EXTENSION_SUFFIXES)) == (TESTED == "compiled")


def test_what_stays_interpreted_is_there() -> None:
    for path in hook()["interpreted"]:
        assert (ROOT / path).exists()
        module = importlib.import_module(".".join(Path(path).with_suffix("").parts))
        assert str(module.__file__).endswith(".py")


def test_the_compiled_build_is_not_in_the_tree() -> None:
    """Else a module of the tree, which nobody compiled from it, would be tested in its place."""
    assert (Path(str(van.__file__)).is_relative_to(ROOT / "van")) == (TESTED == "pure")


def test_processes_that_tests_start_run_the_same_build() -> None:
    command = [sys.executable, "-m", "van.router", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.endswith(f"{TESTED})\n")


# --- what mypyc compiles to something else than the interpreter does, and says nothing (decision 9)


def functions(module: str) -> list[ast.FunctionDef]:
    """The functions and methods of a module, from its source."""
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("module", compilable())
def test_a_name_holds_one_kind_of_error_in_a_function(module: str) -> None:
    """The compiled function has the type of the first `except` for it, and refuses an error of another."""
    wrong = []
    for function in functions(module):
        handlers = [node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler) and node.type]
        kinds: dict[str, set[str]] = {}
        for handler in handlers:
            if handler.name and handler.type:
                kinds.setdefault(handler.name, set()).add(ast.unparse(handler.type))
        wrong += [f"{function.name}: {name}" for name, found in kinds.items() if len(found) > 1]
    assert wrong == []


@pytest.mark.parametrize("module", compilable())
def test_no_call_of_super_passes_arguments_that_it_does_not_name(module: str) -> None:
    """The compiled call takes what stands behind `*` or `**` for one argument."""
    wrong = []
    for function in functions(module):
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("super()."):
                starred = any(isinstance(argument, ast.Starred) for argument in node.args)
                if starred or any(keyword.arg is None for keyword in node.keywords):
                    wrong.append(f"{function.name}, line {node.lineno}")
    assert wrong == []


def test_no_constructor_runs_twice() -> None:
    """Of a class that interpreted ones may not extend, `new` runs the constructor: an inherited one that `init` would
    run, since its own class may be extended, runs twice when the interpreter makes an object, and leaks what it set."""
    paths = [ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in compilable()]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    classes = {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}

    def extensible(node: ast.ClassDef) -> bool:
        return any("allow_interpreted_subclasses=True" in ast.unparse(each) for each in node.decorator_list)

    def constructed_by(node: ast.ClassDef) -> ast.ClassDef | None:
        if any(isinstance(each, ast.FunctionDef) and each.name == "__init__" for each in node.body):
            return node
        bases = [classes[name] for name in map(ast.unparse, node.bases) if name in classes]
        return next(filter(None, map(constructed_by, bases)), None)

    wrong = []
    for node in classes.values():
        constructor = constructed_by(node)
        if constructor is not None and extensible(constructor) and not extensible(node):
            if constructor is not node:
                wrong.append(f"{node.name}, of {constructor.name}")
    assert wrong == []
