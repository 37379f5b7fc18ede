"""A user's own code, named in the configuration as `package.module:name`.

What travels to tasks and actors is the name, never the object: each process imports the module for itself, so a filter
may hold what cannot be pickled. A job loads every name once at its start, before it claims a run directory; a worker
whose node lacks the module fails with the same message and the node's name.

The working directory is looked in last, after what is installed: `python jobs/pretrain.py` and the `raypt` command find
a module that lies there, as Ray's workers do.
"""

import difflib
import importlib
import pkgutil
import platform
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import xxhash
from pydantic import AfterValidator

from raypt import storage
from raypt.errors import UserError


def is_plugin(name: str) -> bool:
    """Whether a name stands for a user's own code rather than for something that raypt has."""
    return ":" in name


def split(name: str) -> tuple[str, str]:
    """`package.module:name` -> (package.module, name); `name` may be dotted. Raises ValueError for another form."""
    module, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise ValueError(f"{name!r} does not name code: write it as package.module:name")
    return module, attribute


def _plain(name: str) -> str:
    split(name)
    return name


PluginName = Annotated[str, AfterValidator(_plain)]
"""The type of a configuration key that holds `package.module:name`; its form is checked with the configuration."""


def load(name: str, key: str) -> Any:
    """The object that `package.module:name` stands for, imported in this process.

    Args:
        name: what the configuration says.
        key: the configuration key that says it, for messages.

    Raises:
        UserError: the name has another form, or there is no such module, or importing it fails, or it has no such name.
    """
    try:
        module_name, attribute = split(name)
    except ValueError as e:
        raise UserError(f"{key}: {e}") from None
    found: Any = _module(module_name, f"{key}={name}")
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, [n for n in dir(found) if not n.startswith("__")], 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            place = getattr(found, "__file__", None) or getattr(found, "__name__", module_name)
            raise UserError(f"{key}={name}: {place} has no {part!r}{hint}")
        found = getattr(found, part)
    return found


def fingerprint(name: str, key: str) -> str:
    """Hash of the source file that `package.module:name` comes from: what an artefact made with it depends on.

    A module that it imports from elsewhere is not part of it.
    """
    load(name, key)
    file = getattr(sys.modules[split(name)[0]], "__file__", None)
    if file is None:
        raise UserError(f"{key}={name}: the module has no source file, so raypt could not tell when it changes")
    return xxhash.xxh3_128_hexdigest(storage.read_bytes(file))


def _module(module_name: str, what: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()  # a file may be younger than the last look at its directory
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        missing = e.name or ""
        if missing != module_name and not module_name.startswith(f"{missing}."):
            raise UserError(
                f"{what}: {module_name} imports {missing!r}, which is not installed on {platform.node()}"
            ) from None
        raise UserError(
            f"{what}: there is no module {missing!r} on {platform.node()}{_nearest(missing)}. Install it on every node "
            "(or as `pip` of the job's runtime environment), or put it in the working directory"
        ) from None
    except Exception as e:
        frames = [f for f in traceback.extract_tb(e.__traceback__) if "importlib" not in f.filename]
        at = f"{frames[-1].filename}:{frames[-1].lineno}: " if len(frames) > 1 else ""
        if isinstance(e, SyntaxError):
            at = f"{e.filename}:{e.lineno}: "
        raise UserError(f"{what}: importing {module_name} failed: {at}{type(e).__name__}: {e}") from e


def _nearest(missing: str) -> str:
    """The module beside which `missing` was looked for whose name is nearest."""
    parent, _, last = missing.rpartition(".")
    paths = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    known = [m.name for m in pkgutil.iter_modules(paths)] if paths or not parent else []
    near = difflib.get_close_matches(last, known, 1, 0.7)
    return f" (did you mean {f'{parent}.' if parent else ''}{near[0]}?)" if near else ""
