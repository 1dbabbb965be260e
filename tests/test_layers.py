"""Imports point one way, the core touches nothing of the world, and nothing is hidden from the coverage gates.

`cli, router → transport, management → adaptors → routing → amqp → stdlib`; `client` stands on `transport` and `amqp`,
`testing` on everything below `router`.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VAN = ROOT / "van"

# Which packages of van a package may import beside itself; a dotted name allows that module alone.
MAY_IMPORT = {
    "amqp": set[str](),
    "routing": {"amqp"},
    "adaptors": {"routing", "amqp"},
    "management": {"adaptors", "routing", "amqp"},
    "transport": {"adaptors", "routing", "amqp"},
    # An adaptor is what the transport drives, and the client's connection is one.
    "client": {"transport", "amqp", "routing.adaptor"},
    "testing": {"client", "transport", "management", "adaptors", "routing", "amqp"},
    "router": {"transport", "management", "adaptors", "routing", "amqp"},
    "cli": {"router", "client", "testing", "transport", "management", "adaptors", "routing", "amqp"},
}

# Libraries of others, where they may be imported at all; the rest of van is the standard library and trio.
THIRD_PARTY = {
    # Where types are checked, and nowhere else: nobody who runs van has it.
    "amqp": {"mypy_extensions"},
    "routing": set[str](),
    "adaptors": {"dns", "h11", "h2", "hpack", "hyperframe"},
    "management": {"attrs", "cattrs"},
    "transport": {
        "cryptography", "h11", "outcome", "python_socks", "scramp", "structlog", "trio", "wsproto",
    },
    "client": {"outcome", "structlog", "trio"},
    "testing": {"trio"},
    "router": {"attrs", "cattrs", "outcome", "structlog", "tomlkit", "trio"},
    "cli": {"cyclopts", "rich", "structlog", "trio"},
}  # fmt: skip

SANS_IO = ("amqp", "routing", "adaptors", "management")

# Clocks, randomness, sockets, files and tasks: what would make a run unrepeatable, or wait.
WORLD = {
    "asyncio", "concurrent", "datetime", "fcntl", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random",
    "sched", "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver", "ssl", "subprocess",
    "tempfile", "threading", "time", "trio", "urllib",
}  # fmt: skip
WORLDLY_NAMES = {("uuid", "uuid1"), ("uuid", "uuid4"), ("uuid", "getnode")}


def modules(package: str) -> list[Path]:
    return sorted((VAN / package).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Every import anywhere in a module: (module, imported name or "", line)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, "", node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which layer is meant"
            for alias in node.names:
                yield node.module or "", alias.name, node.lineno


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT).as_posix()}:{line}"


def van_target(module: str, name: str) -> str:
    """`van.routing.adaptor` as seen from `van`: `routing.adaptor`."""
    parts = module.split(".")[1:]
    return ".".join(parts or [name])


def test_every_package_has_its_place_among_the_layers() -> None:
    packages = {path.name for path in VAN.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert packages <= MAY_IMPORT.keys()


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    wrong = []
    for path in modules(package):
        for module, name, line in imports(parse(path)):
            if module.split(".")[0] != "van":
                continue
            target = van_target(module, name)
            if target == "__version__" or target.split(".")[0] in allowed or target in allowed:
                continue
            wrong.append(f"{where(path, line)} imports van.{target}")
    assert wrong == []


@pytest.mark.parametrize("package", THIRD_PARTY)
def test_libraries_stay_where_they_belong(package: str) -> None:
    wrong = [
        f"{where(path, line)} imports {module}"
        for path in modules(package)
        for module, _, line in imports(parse(path))
        if module.split(".")[0] not in sys.stdlib_module_names | THIRD_PARTY[package] | {"van"}
    ]
    assert wrong == []


def test_van_itself_imports_nothing() -> None:
    assert [module for module, _, _ in imports(parse(VAN / "__init__.py")) if module != "__future__"] == []


@pytest.mark.parametrize("package", SANS_IO)
def test_the_core_never_touches_the_world(package: str) -> None:
    wrong = []
    for path in modules(package):
        tree = parse(path)
        for module, name, line in imports(tree):
            if module.split(".")[0] in WORLD or (module, name) in WORLDLY_NAMES:
                wrong.append(f"{where(path, line)} imports {module} {name}".rstrip())
        for node in ast.walk(tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                wrong.append(f"{where(path, node.lineno)} may wait")
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if (node.value.id, node.attr) in WORLDLY_NAMES:
                    wrong.append(f"{where(path, node.lineno)} uses {node.value.id}.{node.attr}")
            if isinstance(node, ast.Name) and node.id in {"open", "print", "input"}:
                wrong.append(f"{where(path, node.lineno)} uses {node.id}")
    assert wrong == []


# --- nothing is hidden from the coverage gates


def never_executed(tree: ast.Module) -> set[int]:
    """The lines of `if TYPE_CHECKING:` and of Protocol classes."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If):
            skipped = ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        elif isinstance(node, ast.ClassDef):
            skipped = any("Protocol" in ast.unparse(base) for base in node.bases)
        else:
            continue
        if skipped:
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def test_no_line_is_left_out_of_coverage_that_could_be_executed() -> None:
    pragma = "pragma: " + "no "
    wrong = []
    for path in sorted(VAN.rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        marked = [number for number, line in enumerate(lines, 1) if pragma in line]
        if marked:
            wrong += [where(path, number) for number in marked if number not in never_executed(parse(path))]
    assert wrong == []


def test_the_coverage_settings_leave_out_nothing_else() -> None:
    coverage = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["coverage"]
    assert coverage["run"]["source"] == ["van"]
    assert coverage["run"]["branch"] is True
    assert coverage["report"]["exclude_also"] == ["if TYPE_CHECKING:", r"class .*\bProtocol\b.*:"]
    settings = coverage["run"].keys() | coverage["report"].keys()
    assert settings.isdisjoint({"omit", "include", "exclude_lines", "partial_branches", "exclude_other"})


# --- the project stands by itself

# Not ours, or made by tools.
SKIPPED_FOLDERS = {
    ".git", ".venv", ".interop", "build", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "__pycache__",
}  # fmt: skip
TEXT = {"", ".py", ".md", ".toml", ".js", ".yml", ".cfg", ".txt", ".sh"}
# Written in two parts, so that this file does not mention them either.
FOREIGN_PLACES = ["../" + "shared", "/wo" + "rk/", "amqp" + "load", "hot-" + "path.md", "house-" + "style.md"]


def test_the_project_mentions_no_place_outside_of_it() -> None:
    wrong = []
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        if not path.is_file() or path.suffix not in TEXT or SKIPPED_FOLDERS & set(relative.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [f"{relative.as_posix()} mentions {place}" for place in FOREIGN_PLACES if place in text]
    assert wrong == []
