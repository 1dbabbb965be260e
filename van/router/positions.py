"""Where in a TOML text each key and each value stands.

tomlkit parses, judges the syntax and keeps every octet, but it has no positions in its interface. This walks over a
text that tomlkit has accepted, and so needs no error handling of its own. It is used only when something is to be
reported about the text.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

KeyPath = tuple[str | int, ...]

_BLANKS = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_STRINGS = {
    '"""': re.compile(r'"""(?:[^\\"]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL),
    "'''": re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}", re.DOTALL),
    '"': re.compile(r'"(?:[^\\"\n]|\\.)*"'),
    "'": re.compile(r"'[^'\n]*'"),
}


class Positions:
    """Line and column, both from 1, of everything that a TOML text names. `text` must be valid TOML."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._keys: dict[KeyPath, int] = {}
        self._values: dict[KeyPath, int] = {}
        self._array_lengths: dict[KeyPath, int] = {}
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._document()

    def of_key(self, path: KeyPath) -> tuple[int, int]:
        """Where the key stands, or the nearest table around it when it is not in the text (1, 1 for the document)."""
        return self._locate(path, self._keys)

    def of_value(self, path: KeyPath) -> tuple[int, int]:
        """Where the value stands; for a table the header that opened it, for what is missing the table around it."""
        return self._locate(path, self._values)

    def _locate(self, path: KeyPath, first: dict[KeyPath, int]) -> tuple[int, int]:
        for table in (path[:length] for length in range(len(path), 0, -1)):
            offset = first.get(table, self._keys.get(table, self._values.get(table)))
            if offset is not None:
                line = bisect_right(self._line_starts, offset)
                return line, offset - self._line_starts[line - 1] + 1
        return 1, 1

    def _document(self) -> None:
        table: KeyPath = ()
        self._skip(_GAP)
        while self._at < len(self._text):
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._key_and_value(table)
            self._skip(_GAP)

    def _header(self) -> KeyPath:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        parts = [name for name, _ in self._key()]
        self._at += 2 if is_array else 1
        path: KeyPath = ()
        for name in parts[:-1]:
            path = self._into_last_element((*path, name))
            self._keys.setdefault(path, start)
        path = (*path, parts[-1])
        if is_array:
            index = self._array_lengths.get(path, 0)
            self._array_lengths[path] = index + 1
            self._keys.setdefault(path, start)
            path = (*path, index)
        # A later header of the same table adds to it; the first is where a reader looks for it.
        self._keys.setdefault(path, start)
        return path

    def _into_last_element(self, path: KeyPath) -> KeyPath:
        length = self._array_lengths.get(path)
        return path if length is None else (*path, length - 1)

    def _key_and_value(self, table: KeyPath) -> None:
        path = table
        for name, offset in self._key():
            path = (*path, name)
            self._keys.setdefault(path, offset)
        self._at += 1  # the equals sign
        self._skip(_BLANKS)
        self._value(path)

    def _key(self) -> list[tuple[str, int]]:
        """Read a dotted key; stops before what follows it."""
        parts = []
        while True:
            self._skip(_BLANKS)
            start = self._at
            quote = self._text[start]
            if quote in "\"'":
                self._skip(_STRINGS[quote])
                name = str(tomllib.loads("key = " + self._text[start : self._at])["key"])
            else:
                self._skip(_BARE_KEY)
                name = self._text[start : self._at]
            parts.append((name, start))
            self._skip(_BLANKS)
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        self._values[path] = self._at
        if self._text.startswith("[", self._at):
            self._elements(path, "]")
        elif self._text.startswith("{", self._at):
            self._elements(path, "}")
        else:
            for quotes, pattern in _STRINGS.items():
                if self._text.startswith(quotes, self._at):
                    self._skip(pattern)
                    return
            self._skip(_SCALAR)

    def _elements(self, path: KeyPath, closing: str) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_GAP)
            if self._text.startswith(closing, self._at):
                self._at += 1
                return
            if self._text.startswith(",", self._at):
                self._at += 1
            elif closing == "}":
                self._key_and_value(path)
            else:
                self._value((*path, index))
                index += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        assert match is not None, f"not valid TOML at offset {self._at}"
        self._at = match.end()
