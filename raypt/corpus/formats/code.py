"""Source code: a file is a document, its language told by its suffix."""

import posixpath
from collections.abc import Iterator
from typing import Any

from raypt.corpus.formats.compression import without_compression
from raypt.corpus.formats.text import read_text_file
from raypt.corpus.records import Item, ReadRequest, Record

LANGUAGES = {
    ".ada": "Ada", ".adb": "Ada", ".ads": "Ada", ".asm": "Assembly", ".s": "Assembly", ".bash": "Shell",
    ".c": "C", ".h": "C", ".cc": "C++", ".cpp": "C++", ".cxx": "C++", ".hh": "C++", ".hpp": "C++", ".hxx": "C++",
    ".clj": "Clojure", ".cs": "C#", ".css": "CSS", ".cu": "CUDA", ".d": "D", ".dart": "Dart", ".el": "Emacs Lisp",
    ".erl": "Erlang", ".ex": "Elixir", ".exs": "Elixir", ".f": "Fortran", ".f90": "Fortran", ".fs": "F#", ".go": "Go",
    ".groovy": "Groovy", ".hs": "Haskell", ".java": "Java", ".jl": "Julia", ".js": "JavaScript", ".jsx": "JavaScript",
    ".kt": "Kotlin", ".lean": "Lean", ".lisp": "Common Lisp", ".lua": "Lua", ".m": "Objective-C", ".ml": "OCaml",
    ".mli": "OCaml", ".pas": "Pascal", ".php": "PHP", ".pl": "Perl", ".pm": "Perl", ".proto": "Protocol Buffer",
    ".ps1": "PowerShell", ".py": "Python", ".pyi": "Python", ".r": "R", ".rb": "Ruby", ".rs": "Rust", ".scala": "Scala",
    ".scm": "Scheme", ".sh": "Shell", ".sol": "Solidity", ".sql": "SQL", ".sv": "SystemVerilog", ".swift": "Swift",
    ".tcl": "Tcl", ".tex": "TeX", ".ts": "TypeScript", ".tsx": "TypeScript", ".v": "Verilog", ".vb": "Visual Basic",
    ".vhd": "VHDL", ".vim": "Vim Script", ".vue": "Vue", ".zig": "Zig", ".zsh": "Shell",
}  # fmt: skip
"""Names as GitHub's linguist and The Stack have them; of a suffix that several languages share, the most frequent."""
BY_NAME = {"cmakelists.txt": "CMake", "dockerfile": "Dockerfile", "makefile": "Makefile"}


def language_of(path: str) -> str | None:
    """The programming language that a file name stands for; None if it stands for none."""
    name = posixpath.basename(without_compression(path)).lower()
    return BY_NAME.get(name) or LANGUAGES.get(posixpath.splitext(name)[1])


def read_code(request: ReadRequest) -> Iterator[Item]:
    """A whole file as one document with its `language` (null if the name tells none)."""
    for item in read_text_file(request):
        if isinstance(item, Record):
            fields: dict[str, Any] = {**item.fields, "language": language_of(request.uri)}
            yield Record(item.row, fields)
        else:
            yield item
