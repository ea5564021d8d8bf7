"""Reads C++ well enough for the checks: which files there are, and their text with comments and literals blanked."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

CODE_FOLDERS = ("common", "master", "chunkserver", "fs", "tests", "bench")
CODE_ENDINGS = (".h", ".cc", ".c")


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.message}"


def files(root, endings, folders=CODE_FOLDERS):
    """Paths below root, relative to it, with '/' between folders, sorted."""
    found = []
    for folder in folders:
        for directory, subfolders, names in os.walk(Path(root) / folder):
            subfolders[:] = [name for name in subfolders if name not in ("build", "__pycache__", "node_modules")]
            for name in names:
                if name.endswith(endings):
                    found.append((Path(directory) / name).relative_to(root).as_posix())
    return sorted(found)


def read(root, path):
    return (Path(root) / path).read_text(encoding="utf-8", errors="replace")


_LITERALS = re.compile(
    r"""
    (?P<line>//(?:[^\n\\]|\\.|\\\n)*)
  | (?P<block>/\*.*?\*/)
  | (?P<raw>\bR"(?P<delimiter>[^\s()\\]{0,16})\(.*?\)(?P=delimiter)")
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<number>\b\d[\w.]*(?:'\w+)*)
  | (?P<char>'(?:[^'\\\n]|\\.)+')
    """,
    re.VERBOSE | re.DOTALL,
)


def blanked(text):
    """The text with comments and literals replaced by spaces, so that every offset and line stays where it was."""

    def blank(match):
        if match.lastgroup == "number" or match.group("number"):
            return match.group(0).replace("'", "0")
        return re.sub(r"[^\n]", " ", match.group(0))

    return _LITERALS.sub(blank, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def includes(text):
    """(line, name, quoted) of every #include."""
    pattern = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)
    for match in pattern.finditer(text):
        yield line_of(text, match.start()), match.group(2), match.group(1) == '"'
