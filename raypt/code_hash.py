"""Hashes of the code that functions of this package use: what is kept on a machine for a function is kept by its hash.

Of a function that is itself, and the functions, classes and constants of this package that it names, and those that
they name. A comment, a docstring or another function of the same file changes nothing.
"""

import ast
import functools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from raypt.kept import kept_bytes
from raypt.kernel_place import PACKAGE

FORMAT = 1
"""Raise it when `_read` finds something else in the same source."""


@dataclass(frozen=True)
class _Definition:
    """What a name is bound by at the top of a module."""

    code: str
    """Hash of the statements."""
    names: list[str]
    """Of those in it, the ones that the module binds or imports."""
    attributes: list[list[str]]
    """[name, attribute] of those that are looked up in a name that it imports."""


@dataclass(frozen=True)
class _Module:
    """The top level of one module: what each name is bound by, and what it imports from this package."""

    definitions: dict[str, _Definition]
    imported: dict[str, tuple[str, str | None]]
    """Name -> (module, name in it), or (module, None) where the name is the module itself."""


def _path(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def _is_module(module: str) -> bool:
    return module.split(".")[0] == PACKAGE.name and _path(module).is_file()


def _bound(node: ast.AST) -> Iterator[str]:
    return (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def _read(source: bytes) -> dict[str, Any]:
    """`definitions` (name: fields of `_Definition`) and `imports` (of modules of this package by their names: [name,
    module, name in it]) of a module.
    """
    statements: dict[str, list[ast.stmt]] = {}
    imports: list[tuple[str, str, str]] = []
    tree = ast.parse(source)
    for inner in ast.walk(tree):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner, clean=False) is not None:
            inner.body = inner.body[1:] or [ast.Pass()]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            imports += [(alias.asname or alias.name, node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            statements.setdefault(node.name, []).append(node)
        elif not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr):
            for name in _bound(node):
                statements.setdefault(name, []).append(node)
    foreign = {name for name, _, _ in imports}
    known = foreign | statements.keys()
    definitions = {}
    for name, nodes in statements.items():
        inner_nodes = [inner for node in nodes for inner in ast.walk(node)]
        names = {inner.id for inner in inner_nodes if isinstance(inner, ast.Name)} & known
        attributes = {
            (inner.value.id, inner.attr)
            for inner in inner_nodes
            if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id in foreign
        }
        code = xxhash.xxh3_128_hexdigest("\n".join(ast.dump(node) for node in nodes).encode())
        definitions[name] = [code, sorted(names), sorted(attributes)]
    return {"definitions": definitions, "imports": imports}


@functools.cache
def _module(module: str) -> _Module:
    """Kept by the content of its file: to parse those of a run's kernels takes each process a quarter of a second."""
    source = _path(module).read_bytes()
    digest, version = xxhash.xxh3_128_hexdigest(source), f"{sys.version_info[0]}.{sys.version_info[1]}"
    name = f"{module}-{digest}-python{version}-{FORMAT}.json"
    found = json.loads(kept_bytes(name, lambda: json.dumps(_read(source)).encode()))
    imported: dict[str, tuple[str, str | None]] = {}
    for alias, origin, original in found["imports"]:
        if _is_module(origin):
            submodule = f"{origin}.{original}"
            imported[alias] = (submodule, None) if _is_module(submodule) else (origin, original)
    return _Module({name: _Definition(*fields) for name, fields in found["definitions"].items()}, imported)


def _use(module: str, name: str, seen: dict[tuple[str, str], str]) -> None:
    """Add to `seen` the code of a name of a module, and of every name of this package that it leads to."""
    if (module, name) in seen:
        return
    found = _module(module)
    if name in found.imported:
        inner, original = found.imported[name]
        if original is not None:
            _use(inner, original, seen)
        return
    definition = found.definitions.get(name)
    if definition is None:
        return  # a builtin, a local variable, or another package's
    seen[module, name] = definition.code
    for inner_name in definition.names:
        _use(module, inner_name, seen)
    for inner_name, attribute in definition.attributes:
        target = found.imported.get(inner_name)
        if target is not None and target[1] is None:
            _use(target[0], attribute, seen)


@functools.cache
def uses_hash(module: str, name: str) -> str:
    """Hash of the code of a top-level function `raypt.module.name` and of all of this package that it uses."""
    seen: dict[tuple[str, str], str] = {}
    _use(module, name, seen)
    digest = xxhash.xxh3_128()
    for (where, what), code in sorted(seen.items()):
        digest.update(f"{where}:{what}\n{code}\n".encode())
    return digest.hexdigest()
