"""The hook that compiles a wheel: with `VAN_COMPILE=1` in the environment mypyc turns the hot modules into extensions.

hatchling calls it for every wheel. Without the variable it does nothing, needs nothing, and the wheel is pure. Which
modules are compiled stands in `pyproject.toml`, beside the path of this file. An editable installation stays pure:
its modules are the sources themselves.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Anything but these asks for a compiled wheel.
NO = ("", "0", "no", "false")
# mypy as in the version with which all tests passed: each release of mypyc compiles a little differently.
REQUIRES = ["mypy==2.4.*", "setuptools>=80"]
# What the compiled modules are typed by: the libraries that they import.
REQUIRES += ["dnspython>=2.7", "h11>=0.14", "h2>=4.3", "hpack>=4.1", "hyperframe>=6.1"]


def asked_for() -> bool:
    """Whether this wheel shall be a compiled one."""
    return os.environ.get("VAN_COMPILE", "").lower() not in NO


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]  # not installed here
    """Adds extension modules to the wheel, beside the sources that they were made of."""

    def dependencies(self) -> list[str]:
        """What the environment of the build needs."""
        return REQUIRES if asked_for() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name what came out of it to hatchling."""
        if version == "editable" or not asked_for():
            return
        self._directory = tempfile.TemporaryDirectory(prefix="van-compiled-")
        modules = module_files(Path(self.root), self.config["packages"], self.config["interpreted"])
        for built, place in compile_modules(Path(self.root), modules, Path(self._directory.name)):
            build_data["force_include"][str(built)] = place
        build_data["infer_tag"] = True
        build_data["pure_python"] = False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written: what it was made of can go."""
        if hasattr(self, "_directory"):
            self._directory.cleanup()


def module_files(root: Path, packages: Sequence[str], interpreted: Sequence[str]) -> list[str]:
    """The modules of these packages but those that stay interpreted, and empty ones: their files below `root`."""
    files = [file for package in packages for file in sorted((root / package).rglob("*.py")) if file.stem != "__init__"]
    paths = [file.relative_to(root).as_posix() for file in files]
    return [path for path in paths if path not in interpreted]


def compile_modules(root: Path, modules: list[str], directory: Path) -> list[tuple[Path, str]]:
    """Compile modules into `directory`; returns each extension and its place in the wheel. A C compiler is needed.

    All are one unit to mypyc, so that calls between them are calls of C functions.
    """
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    before = Path.cwd()
    os.chdir(root)
    try:
        extensions = mypycify(
            # Without our settings: what they forbid is no reason not to compile.
            ["--config-file=", f"--cache-dir={directory / 'mypy'}", *modules],
            opt_level=os.environ.get("VAN_COMPILE_OPT", "2"),
            debug_level="0",
            multi_file=True,
            target_dir=str(directory / "c"),
            group_name="van",
        )
        command = build_ext(Distribution({"name": "van", "ext_modules": extensions}))
        command.build_lib = str(directory / "lib")
        command.build_temp = str(directory / "objects")
        command.ensure_finalized()
        _compile_in_parallel()
        command.run()
    finally:
        os.chdir(before)
    library = directory / "lib"
    found = [file for file in sorted(library.rglob("*")) if file.suffix in {".so", ".pyd"}]
    return [(file, file.relative_to(library).as_posix()) for file in found]


def _compile_in_parallel() -> None:
    """Have the files of one extension compiled by all processors; setuptools takes one after the other.

    Compilers of another family than Unix's have a `compile` of their own, which stays as it is.
    """
    from distutils import ccompiler

    def compile_all(
        self: Any,
        sources: list[str],
        output_dir: str | None = None,
        macros: Any = None,
        include_dirs: Any = None,
        debug: bool = False,
        extra_preargs: Any = None,
        extra_postargs: Any = None,
        depends: Any = None,
    ) -> list[str]:
        _, objects, postargs, options, build = self._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        arguments = self._get_cc_args(options, debug, extra_preargs)

        def compile_one(built: str) -> None:
            source, extension = build[built]
            self._compile(built, source, extension, arguments, postargs, options)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            # So that no large one is left alone at the end.
            largest_first = sorted(build, key=lambda built: -Path(build[built][0]).stat().st_size)
            list(pool.map(compile_one, largest_first))
        return list(objects)

    compiler: Any = ccompiler.CCompiler
    compiler.compile = compile_all


if __name__ == "__main__":
    sys.exit("hatchling calls this: VAN_COMPILE=1 pip wheel .")
