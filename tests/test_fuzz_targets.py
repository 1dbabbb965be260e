"""Every fuzz target runs over its corpus and some changes of it, and its corpus reaches its decoder.

The targets themselves, guided by coverage and for as long as one likes, are run by `make fuzz`.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).parent.parent / "fuzz"
NAMES = sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.py"))
# A tenth of a second for each target that takes 0.1 ms an input.
CHANGES = 1000


def load(name: str) -> ModuleType:
    """Import a script of the fuzz folder, which is no package."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, FUZZ / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts find one another beside themselves."""
    monkeypatch.syspath_prepend(str(FUZZ))


def test_there_are_targets() -> None:
    assert {"codec", "composite", "message"} <= set(NAMES)
    assert load("harness").target_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_target_states_its_invariant_and_how_it_is_proved(name: str) -> None:
    target = load(f"fuzz_{name}")
    assert (target.__doc__ or "").splitlines()[0].endswith(".")
    assert target.PLANTED
    for module, text, replacement in target.PLANTED:
        source = FUZZ.parent.joinpath(*module.split(".")).with_suffix(".py").read_text()
        assert source.count(text) == 1, f"the fault in {module} no longer fits: {text!r}"
        assert text != replacement


@pytest.mark.parametrize("name", NAMES)
def test_a_corpus_holds_and_reaches_most_of_the_decoder(name: str) -> None:
    harness = load("harness")
    target = load(f"fuzz_{name}")
    corpus = harness.seeds(name)
    assert corpus
    percent, missed = harness.replay(target.one_input, [b"", *corpus], target.DECODER)
    assert percent >= 80, missed


@pytest.mark.parametrize("name", NAMES)
def test_changes_of_a_corpus_hold(name: str) -> None:
    harness = load("harness")
    target = load(f"fuzz_{name}")
    changes = harness.mutations(harness.seeds(name), random.Random(name))
    for _ in range(CHANGES):
        data = next(changes)
        try:
            target.one_input(data)
        except BaseException as error:
            error.add_note(f"input: {data.hex()}")
            raise


def test_a_fault_is_put_into_a_copy_of_the_package_only(tmp_path: Path) -> None:
    harness = load("harness")
    module, text, replacement = load("fuzz_codec").PLANTED[0]
    harness.plant(module, text, replacement, tmp_path)
    copy = tmp_path.joinpath(*module.split(".")).with_suffix(".py").read_text()
    assert text not in copy
    assert replacement in copy
    with pytest.raises(SystemExit, match="fits 0 places"):
        harness.plant(module, "no such text", "", tmp_path / "again")
