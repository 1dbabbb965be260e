"""A site file in a folder of its own, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from van.router.config import ConfigurationError, SiteConfig, load_config


class SiteFile:
    """A site file that a scene writes; error lines are seen without the folder's name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "site.toml"

    def write(self, text: str) -> Path:
        self.path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        return self.path

    def load(self, text: str) -> SiteConfig:
        return load_config(self.write(text))

    def errors(self, text: str) -> list[str]:
        try:
            self.load(text)
        except ConfigurationError as error:
            return [line.replace(f"{self.folder}/", "") for line in error.lines]
        return []
