"""List runs with what they hold, and delete what is safe to delete.

    raypt ls DIR           the runs in a directory: state, step, sizes by kind
    raypt rm RUN --work    intermediate files: a finished run needs none; one that is resumed makes them anew
    raypt rm RUN --checkpoints    all but the newest checkpoint
    raypt rm RUN --all     everything

Nothing is deleted of a run that a job works in, nor without `--yes`: without it, what would go is listed.
"""

import argparse
from collections.abc import Iterator

from raypt import storage
from raypt.errors import UserError
from raypt.lease import holder_of
from raypt.run.diary import starts
from raypt.run.open import LEASE
from raypt.run.status import existing_run
from raypt.run_dir import RunDir
from raypt.training.checkpoint.directory import newest_step, step_of

KINDS = ("curated", "removed", "tokens", "checkpoints", "export", "work")


def sizes(run: RunDir) -> dict[str, int]:
    """Bytes by kind; what is of no kind is `other`. One walk of the directory."""
    fs, root = storage.filesystem(run.uri)
    found = dict.fromkeys((*KINDS, "other"), 0)
    for path, info in fs.find(root, detail=True).items():
        top = path[len(root) :].lstrip("/").split("/", 1)
        kind = top[0] if len(top) > 1 and top[0] in KINDS else "other"
        found[kind] += int(info.get("size") or 0)
    return found


def size(nbytes: float) -> str:
    """For people: 12 kB, 3.4 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} TB"


def runs_in(uri: str) -> Iterator[RunDir]:
    """The runs directly in a directory, or the run that it is itself."""
    root = storage.absolute(uri)
    if storage.exists(RunDir(root).config):
        yield RunDir(root)
        return
    for name in sorted(storage.listdir(root)):
        run = RunDir(storage.join(root, name))
        if storage.exists(run.config):
            yield run


def state(run: RunDir) -> str:
    """In a word: running, killed, or how its last start ended."""
    if holder_of(run.path(*LEASE)):
        return "running"
    diary = starts(run)
    return "unknown" if not diary else "killed" if diary[-1].ended is None else diary[-1].status


def ls(argv: list[str]) -> int:
    """`raypt ls DIR`."""
    parser = argparse.ArgumentParser(prog="raypt ls", description="The runs in a directory, with their sizes by kind.")
    parser.add_argument("dir", nargs="?", default="runs", help="default: %(default)s")
    args = parser.parse_args(argv)
    count = 0
    for run in runs_in(args.dir):
        count += 1
        by_kind = sizes(run)
        step = newest_step(run.path("checkpoints"))
        kinds = ", ".join(f"{kind} {size(n)}" for kind, n in by_kind.items() if n)
        said = [run.uri.rsplit("/", 1)[-1], state(run), *([f"step {step:,}"] if step else [])]
        print("  ".join([*said, f"{size(sum(by_kind.values()))}: {kinds}"]))
    if not count:
        raise UserError(f"there is no run in {args.dir}")
    return 0


def _doomed(run: RunDir, args: argparse.Namespace) -> list[str]:
    if args.all:
        return [run.uri]
    out = [run.path("work")] if args.work else []
    if args.checkpoints:
        newest = newest_step(run.path("checkpoints"))
        names = [name for name in storage.listdir(run.path("checkpoints")) if name.startswith("step-")]
        out += [run.path("checkpoints", name) for name in sorted(names) if step_of(name) < newest]
    return out


def rm(argv: list[str]) -> int:
    """`raypt rm RUN`."""
    parser = argparse.ArgumentParser(
        prog="raypt rm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--work", action="store_true", help="intermediate files")
    parser.add_argument("--checkpoints", action="store_true", help="all but the newest checkpoint")
    parser.add_argument("--all", action="store_true", help="the whole run")
    parser.add_argument("--yes", action="store_true", help="do it; else what would go is listed")
    args = parser.parse_args(argv)
    run = existing_run(args.run)
    if held := holder_of(run.path(*LEASE)):
        raise UserError(f"{args.run}: {held[0].what} works in it on {held[0].host}; nothing is deleted")
    if not (args.work or args.checkpoints or args.all):
        parser.error("say what: --work, --checkpoints or --all")
    fs, _ = storage.filesystem(run.uri)
    doomed = _doomed(run, args)
    for uri in doomed:
        path = storage.filesystem(uri)[1]
        if not fs.exists(path):
            continue
        print(f"{'deleted' if args.yes else 'would delete'} {uri} ({size(sum(fs.du(path, total=False).values()))})")
        if args.yes:
            fs.rm(path, recursive=True)
    if not args.yes and doomed:
        print("nothing was deleted; --yes does it")
    return 0
