"""A cache of compiled kernels (`raypt.kernels`) that outlives checkouts and uploads.

numba keys its cache by the path and the time of a source file, so each `ray job submit`, which unpacks the working
directory under a new name, would compile everything again, a minute a node; and it looks only at the file of a
function, so a change in a kernel that another file's kernel inlines would go unseen. Here the key of a kernel is the
code of what it uses: itself, and the kernels, functions and constants of this package that it names, and those that
they name. A comment, a docstring or another kernel of the same file changes nothing.
"""

import ast
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from numba.core import caching, event

from raypt.errors import UserError
from raypt.lines import say_once

PACKAGE = Path(__file__).parent


COMPILING = (
    "kernels are compiled, those that this run uses, on each machine once (kept under RAYPT_KERNEL_CACHE): up to a "
    "minute of CPU, beside other work"
)


@dataclass(frozen=True)
class _Module:
    """The top level of one module: what each name is bound by, and what it imports from this package."""

    definitions: dict[str, list[ast.stmt]]
    imported: dict[str, tuple[str, str | None]]
    """Name -> (module, name in it), or (module, None) where the name is the module itself."""


def _path(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_module(module: str) -> bool:
    return module.split(".")[0] == PACKAGE.name and _path(module).is_file()


@functools.cache
def _parse(module: str) -> _Module:
    definitions: dict[str, list[ast.stmt]] = {}
    imported: dict[str, tuple[str, str | None]] = {}
    tree = ast.parse(_path(module).read_bytes())
    for inner in ast.walk(tree):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner, clean=False) is not None:
            inner.body = inner.body[1:] or [ast.Pass()]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and _is_module(node.module):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                target = (submodule, None) if _is_module(submodule) else (node.module, alias.name)
                imported[alias.asname or alias.name] = target
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            definitions.setdefault(node.name, []).append(node)
        elif not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr):
            for target_name in _bound(node):
                definitions.setdefault(target_name, []).append(node)
    return _Module(definitions, imported)


def _bound(node: ast.AST) -> Iterator[str]:
    return (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def _used(module: str, name: str, seen: dict[tuple[str, str], str]) -> None:
    """Add to `seen` the code of a name of a module, and of every name of this package that it leads to."""
    if (module, name) in seen:
        return
    parsed = _parse(module)
    if name in parsed.imported:
        inner, original = parsed.imported[name]
        if original is not None:
            _used(inner, original, seen)
        return
    nodes = parsed.definitions.get(name)
    if nodes is None:
        return  # a builtin, a local variable, or another package's
    seen[module, name] = "\n".join(ast.dump(node) for node in nodes)
    for node in nodes:
        for inner_node in ast.walk(node):
            if isinstance(inner_node, ast.Name):
                _used(module, inner_node.id, seen)
            elif isinstance(inner_node, ast.Attribute) and isinstance(inner_node.value, ast.Name):
                target = parsed.imported.get(inner_node.value.id)
                if target is not None and target[1] is None:
                    _used(target[0], inner_node.attr, seen)


@functools.cache
def uses_hash(module: str, name: str) -> str:
    """Hash of the code of a top-level function `raypt.module.name` and of all of this package that it uses."""
    seen: dict[tuple[str, str], str] = {}
    _used(module, name, seen)
    digest = xxhash.xxh3_128()
    for (where, what), code in sorted(seen.items()):
        digest.update(f"{where}:{what}\n{code}\n".encode())
    return digest.hexdigest()


@functools.cache
def cache_root() -> Path:
    """`~/.cache/raypt/kernels`, or RAYPT_KERNEL_CACHE. What is in it is executed, so it must be one's own.

    Raises:
        UserError: the directory belongs to, or can be written by, somebody else; or its path is relative: another place
            in the working directory of each process.
    """
    chosen = os.environ.get("RAYPT_KERNEL_CACHE")
    if not chosen:
        return _own(Path.home() / ".cache" / "raypt" / "kernels")
    directory = Path(chosen).expanduser()
    if not directory.is_absolute():
        raise UserError(
            f"RAYPT_KERNEL_CACHE={chosen}: compiled kernels are kept in one directory for all processes of a machine, "
            "so its path must be absolute (/fast/me/kernels) or begin with ~/; unset it for ~/.cache/raypt/kernels"
        )
    return _own(directory)


@functools.cache
def _own(directory: Path) -> Path:
    """`directory`, made for this user alone where it is not there.

    Raises:
        UserError: it belongs to, or can be written by, somebody else.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise UserError(
            f"{directory}: compiled kernels in it would be executed, but other users can write to it; set "
            "RAYPT_KERNEL_CACHE to a directory of your own (chmod go-w), or delete this one"
        )
    return directory


class ContentLocator(caching._CacheLocator):
    """Keeps compiled kernels under `cache_root()`, by the code that each uses."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        relative = Path(py_file).relative_to(PACKAGE).with_suffix("")
        self._module = ".".join((PACKAGE.name, *relative.parts))
        self._hash = uses_hash(self._module, py_func.__qualname__.split(".")[0])

    def get_cache_path(self) -> str:
        return str(_own(cache_root() / self._module))

    def get_source_stamp(self) -> str:
        return self._hash

    def get_disambiguator(self) -> str:
        return self._hash[:16]

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "ContentLocator | None":
        if not Path(py_file).is_relative_to(PACKAGE):
            return None
        locator = cls(py_func, py_file)
        try:
            ensure: Callable[[], None] = locator.ensure_cache_path
            ensure()
        except OSError:
            return None  # no home to write to: numba's own places come next
        return locator


class _FirstCompile(event.Listener):
    """Says that kernels are compiled when the first one is that was looked for in the cache and is not there."""

    def on_start(self, found: event.Event) -> None:
        function = found.data["dispatcher"].py_func
        if function.__module__.startswith(f"{PACKAGE.name}."):
            say_once(COMPILING)

    def on_end(self, found: event.Event) -> None:
        pass


caching.CacheImpl._locator_classes.insert(0, ContentLocator)
event.register("numba:compile", _FirstCompile())
