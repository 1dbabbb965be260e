"""What operators read is true: the page of keys, the site files to start from, the commands of the README."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import attrs
import pytest

from tools.configuration_page import PAGE, with_tables
from van.router.config import KEYS_ELSEWHERE, REPEATED_SECTIONS, SECTIONS_LATER, SINGLE_SECTIONS, load_config

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("site-*.toml"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

PEM_OF_KEY = {"ca_cert_file": "ca.pem", "cert_file": "cert.pem", "private_key_file": "key.pem"}


def test_the_page_of_keys_is_what_the_code_declares() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page), "run python tools/configuration_page.py"


def test_no_key_is_both_known_and_elsewhere() -> None:
    sections = SINGLE_SECTIONS | REPEATED_SECTIONS
    known = {field.name for cls in sections.values() for field in attrs.fields(cls)}
    assert known.isdisjoint(KEYS_ELSEWHERE)
    assert sections.keys().isdisjoint(SECTIONS_LATER)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid_and_without_warnings(
    example: Path, tmp_path: Path, pem_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (ROOT / "examples").glob("*.toml"):
        shutil.copy(path, tmp_path)
    for profile in tomllib.loads(example.read_text(encoding="utf-8")).get("ssl_profile", []):
        for key, pem in PEM_OF_KEY.items():
            if key in profile:
                target = tmp_path / profile[key]
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(pem_files[pem])
    (tmp_path / "broker-password.txt").write_text("sesame\n")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("ALICE_PASSWORD", "crayon")

    site = load_config(tmp_path / example.name)
    assert site.warnings == ()
    assert site.router.id
    if site.users is not None:
        assert site.users.verify_plain("bob", "pencil")


def test_the_readme_has_exactly_two_commands_for_a_fresh_machine() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first_block = re.findall(r"```\n(.*?)```", readme, re.DOTALL)[0]
    commands = [line.split("#")[0].strip() for line in first_block.splitlines()]
    assert commands == ["make run", "make test"]
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_toml_on_a_page_is_toml(page: Path) -> None:
    for block in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        tomllib.loads(block)
