"""`python -m van.router`: what its arguments mean and which exit codes the process ends with."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import van
from tests.router.site_file import SiteFile
from van.router.__main__ import Arguments, UsageError, parse_arguments

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "van.router", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_check_says_that_a_file_is_valid_and_exits_0(site: SiteFile) -> None:
    path = site.write("[[listener]]\nurl = 'amqp://127.0.0.1:0'\n")
    done = run(path, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}: valid\n", "")


def test_check_names_every_error_on_stderr_and_exits_78(site: SiteFile) -> None:
    path = site.write("[router]\nmode = 'x'\n[[listener]]\n")
    done = run("--check", path)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.splitlines() == [
        f'{path}:2:8: router.mode: unknown value "x"; allowed: "standalone", "interior", "edge"',
        f"{path}:3:1: listener[0].url: missing",
    ]


def test_a_bad_configuration_ends_the_router_with_78_as_well(site: SiteFile) -> None:
    done = run(site.folder / "gone.toml")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"{site.folder}/gone.toml:1:1: cannot read the file: No such file or directory\n"


def test_check_without_a_file_looks_at_the_embedded_default() -> None:
    done = run("--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the embedded default: valid\n", "")


def test_check_shows_warnings(site: SiteFile) -> None:
    path = site.write("")
    done = run(path, "--check")
    assert done.returncode == 0
    assert done.stderr == f"{path}: warning: no listener and no connector: nobody can reach this router\n"


def test_version_is_one_line_with_what_a_report_needs() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith(f"van {van.__version__} (Python {platform.python_version()}, OpenSSL ")
    assert done.stdout.endswith((", pure)\n", ", compiled)\n"))
    assert done.stdout.count("\n") == 1


def test_help_names_every_option_and_exit_code() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("SITE_FILE", "--check", "--version", "SIGTERM", "SIGHUP", "78"):
        assert word in done.stdout


@pytest.mark.parametrize("arguments", [["--chek"], ["a.toml", "b.toml"], ["-v"], ["--check=1"]])
def test_arguments_that_cannot_be_understood_exit_2_with_the_usage(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("usage: python -m van.router ")


def test_arguments_in_any_order() -> None:
    assert parse_arguments([]) == Arguments()
    assert parse_arguments(["a.toml", "--check"]) == Arguments(Path("a.toml"), check=True)
    assert parse_arguments(["--check", "--", "--check"]) == Arguments(Path("--check"), check=True)
    assert parse_arguments(["-h", "--version"]) == Arguments(version=True, help=True)
    with pytest.raises(UsageError, match="unknown option -x"):
        parse_arguments(["-x"])


def test_a_check_loads_nothing_that_it_does_not_need(site: SiteFile) -> None:
    path = site.write("[[listener]]\nurl = 'amqp://127.0.0.1:0'\n")
    program = (
        "import sys; from van.router.__main__ import main; code = main(['--check', sys.argv[1]]);"
        "print(code, sorted({'trio', 'structlog', 'rich', 'cyclopts', 'scramp'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "0 []"
