"""What every fuzz target shares: finding targets, running them, and telling how much of the decoder they reached.

A target is a module `fuzz_NAME.py` beside this one. Its docstring's first line is the invariant. It has

* `one_input(data: bytes) -> None`: returns, or lets escape whatever breaks the invariant;
* `DECODER: dict[str, str]`: dotted module name -> regular expression of the names of the functions that decode; their
  lines are what the coverage printed at the end counts ("" for all functions);
* `PLANTED: tuple[tuple[str, str, str], ...]`: faults to prove the target with: (module, text, replacement), a bounds
  check removed, as `run.py --planted` puts them into a copy of the package;
* `main(__name__)` as its last line.

Its corpus is `corpus/NAME/`. With atheris a target is guided by coverage and run as a process of its own; where there
is none, the corpus is changed at random, from a seed that is printed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CORPUS = HERE / "corpus"
WORK = HERE / ".work"

# Targets find this module and the package, which is another one while a planted fault is looked for.
for folder in (str(HERE), os.environ.get("VAN_FUZZ_PACKAGE", str(ROOT))):
    sys.path.insert(0, folder)

# Limits that libFuzzer watches: an input that takes more is a finding.
MEMORY_LIMIT_MB = 512
INPUT_SECONDS = 5
# Longer inputs find nothing that shorter ones do not, and take their time.
MAX_INPUT_SIZE = 4096
# What has to be reached of the decoder.
WANTED_COVERAGE = 90.0


def target_names() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))


def load(name: str) -> ModuleType:
    """Import a target."""
    return importlib.import_module(f"fuzz_{name}")


def seeds(name: str) -> list[bytes]:
    """Return the corpus of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def mutations(corpus: list[bytes], generator: random.Random) -> Iterator[bytes]:
    """Return changed corpus inputs without end: octets changed, cut out, repeated, put in, two inputs joined."""
    interesting = b"\x00\x01\x40\x45\x50\x70\x7f\x80\xa0\xb1\xc0\xd0\xe0\xf0\xff"
    corpus = corpus or [b"\x00"]
    while True:
        data = bytearray(generator.choice(corpus))
        for _ in range(generator.randint(1, 4)):
            at = generator.randint(0, len(data))
            match generator.randrange(5):
                case 0:
                    data[at : at + 1] = bytes((generator.randrange(256),))
                case 1:
                    data[at : at + 1] = bytes((generator.choice(interesting),))
                case 2:
                    del data[at : at + generator.randint(1, 8)]
                case 3:
                    data[at:at] = data[at : at + generator.randint(1, 16)]
                case _:
                    other = generator.choice(corpus)
                    data[at:] = other[generator.randint(0, len(other)) :]
        yield bytes(data[:MAX_INPUT_SIZE])


def _functions(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _functions(constant)


def decoder_lines(decoder: dict[str, str]) -> dict[str, set[int]]:
    """Return the lines of the decoding functions by file; of modules that are not compiled."""
    lines: dict[str, set[int]] = {}
    for module, pattern in decoder.items():
        file = str(sys.modules[module].__file__ if module in sys.modules else importlib.import_module(module).__file__)
        if not file.endswith(".py"):
            continue  # compiled: nothing can be seen of its lines
        wanted: set[int] = set()
        for function in _functions(compile(Path(file).read_text(), file, "exec")):
            if re.search(pattern, function.co_qualname):
                # The first line is the `def`, which runs on import.
                wanted.update(line for _, _, line in function.co_lines() if line and line != function.co_firstlineno)
        lines[file] = wanted
    return lines


def replay(
    one_input: Callable[[bytes], None], inputs: Iterable[bytes], decoder: dict[str, str]
) -> tuple[float, list[str]]:
    """Run inputs and return the percentage of the decoder's lines that they reach, and the others as `file:line`.

    With a compiled decoder that is 100: it has no lines that could be followed.
    """
    lines = decoder_lines(decoder)
    reached: dict[str, set[int]] = {file: set() for file in lines}

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        seen = reached.get(frame.f_code.co_filename)
        if seen is None:
            return None
        if event == "line":
            seen.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for data in inputs:
            one_input(data)
    finally:
        sys.settrace(before)
    wanted = sum(len(numbers) for numbers in lines.values())
    missed = [
        f"{Path(file).name}:{line}" for file, numbers in lines.items() for line in sorted(numbers - reached[file])
    ]
    return 100.0 * (wanted - len(missed)) / max(wanted, 1) if lines else 100.0, missed


def _guided(name: str, arguments: list[str]) -> None:
    """Run atheris in this process; it ends the process."""
    import atheris

    with atheris.instrument_imports(include=["van", f"fuzz_{name}"]):
        target = load(name)
    atheris.Setup([sys.argv[0], *arguments], target.one_input)
    atheris.Fuzz()


def _unguided(name: str, seconds: float, seed: int) -> int:
    """Change the corpus at random, where there is no atheris."""
    print(f"{name}: no atheris here, random changes from seed {seed}", flush=True)
    target = load(name)
    end = time.monotonic() + seconds
    for count, data in enumerate(mutations(seeds(name), random.Random(seed))):
        try:
            target.one_input(data)
        except BaseException:
            print(f"{name}: input {data.hex()} after {count} others", flush=True)
            raise
        if time.monotonic() > end:
            break
    return 0


def _has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def run_target(name: str, seconds: float, arguments: list[str], *, package: Path = ROOT, report: bool = True) -> int:
    """Run one target in a process of its own and print the coverage that it reached; return its exit status.

    `package` is the folder that holds the package `van` to test. `arguments` go to libFuzzer as they are.
    """
    work = WORK / f"{name}-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    command = [sys.executable, str(Path(__file__).resolve()), name]
    if _has_atheris():
        command += [
            f"-max_total_time={int(seconds)}",
            f"-rss_limit_mb={MEMORY_LIMIT_MB}",
            f"-timeout={INPUT_SECONDS}",
            f"-max_len={MAX_INPUT_SIZE}",
            f"-artifact_prefix={WORK}/{name}-",
            "-print_final_stats=1",
            *arguments,
            str(work),
            str(CORPUS / name),
        ]
    else:
        command += ["--unguided", str(seconds)]
    environment = {**os.environ, "VAN_FUZZ_PACKAGE": str(package)}
    log = WORK / f"{name}.log"
    with log.open("wb") as output:
        status = subprocess.run(
            command, env=environment, cwd=ROOT, check=False, stdout=output, stderr=subprocess.STDOUT
        ).returncode
    if report:
        # libFuzzer tells every step; what counts are the figures at the end, or what was found.
        told = [line for line in log.read_text(errors="replace").splitlines() if not line.startswith(("#", '"'))]
        print("\n".join(line for line in told if line.startswith("stat::")) if status == 0 else "\n".join(told[-40:]))
    if report and status == 0:
        target = load(name)
        inputs = [b"", *seeds(name), *(path.read_bytes() for path in sorted(work.iterdir()))]
        percent, missed = replay(target.one_input, inputs, target.DECODER)
        print(f"{name}: {percent:.1f} % of the decoder's lines reached with {len(inputs)} inputs")
        if missed:
            print(f"{name}: not {' '.join(missed)}")
        if percent < WANTED_COVERAGE:
            print(f"{name}: {WANTED_COVERAGE:.0f} % are wanted")
            status = 1
    shutil.rmtree(work, ignore_errors=True)
    return status


def plant(module: str, text: str, replacement: str, folder: Path) -> None:
    """Copy the package to `folder` with a fault in it."""
    shutil.copytree(ROOT / "van", folder / "van", ignore=shutil.ignore_patterns("__pycache__"))
    file = folder.joinpath(*module.split(".")).with_suffix(".py")
    source = file.read_text()
    if source.count(text) != 1:
        raise SystemExit(f"the fault for {module} fits {source.count(text)} places: {text!r}")
    file.write_text(source.replace(text, replacement))


def main(name: str) -> None:
    """Run the target whose `__name__` this is, when it is the program: `python fuzz/fuzz_NAME.py [--seconds N] [ARG]`.

    Further arguments go to libFuzzer; a file among them is run alone, as it prints one on a finding.
    """
    if name != "__main__":
        return
    target = Path(sys.argv[0]).stem.removeprefix("fuzz_")
    parser = argparse.ArgumentParser(description=f"fuzz target {target}")
    parser.add_argument("--seconds", type=float, default=60.0)
    options, arguments = parser.parse_known_args()
    files = [argument for argument in arguments if Path(argument).is_file()]
    if files:
        for file in files:
            load(target).one_input(Path(file).read_bytes())
            print(f"{file}: nothing found")
        return
    sys.exit(run_target(target, options.seconds, arguments))


if __name__ == "__main__":
    # The process of one target, started by `run_target`.
    if sys.argv[2:3] == ["--unguided"]:
        sys.exit(_unguided(sys.argv[1], float(sys.argv[3]), int(time.time())))
    _guided(sys.argv[1], sys.argv[2:])
