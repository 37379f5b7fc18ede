"""The `raypt` command: one word a job, over the same functions as the scripts in jobs/.

Nothing of a job is imported until it runs: `--help` needs no Ray, torch or compiler, and takes half a second.
"""

import ast
import difflib
import importlib
import importlib.util
import sys
from pathlib import Path

from raypt import __version__

JOBS = {
    "pretrain": "raypt.run.pretrain",
    "plan": "raypt.run.plan",
    "curate": "raypt.run.data_side",
    "tokenize": "raypt.run.tokenize",
    "train-quality": "raypt.run.train_quality",
    "train-tokenizer": "raypt.run.train_tokenizer",
    "evaluate": "raypt.run.evaluate",
    "export": "raypt.run.export",
    "average": "raypt.run.average",
    "rebuild-index": "raypt.run.rebuild_index",
    "bench": "raypt.run.bench",
    "study": "raypt.run.study.job",
}
"""The module of each job; it has `main` and a docstring that is the job's help."""

TOOLS = {
    "status": ("raypt.run.status", "main"),
    "report": ("raypt.run.report", "main"),
    "compare": ("raypt.run.compare", "main"),
    "ls": ("raypt.run.shelf", "ls"),
    "rm": ("raypt.run.shelf", "rm"),
    "completion": ("raypt.run.completion", "main"),
}
"""What looks at runs, and sets up the shell: module and function, which takes the arguments and gives the status."""


def job_doc(module: str) -> str:
    """The docstring of a module, read without importing it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    return ast.get_docstring(ast.parse(Path(spec.origin).read_bytes())) or ""


def usage() -> str:
    """What `raypt --help` prints."""
    width = max(map(len, JOBS)) + 2
    lines = [f"  {name:{width}}{job_doc(module).splitlines()[0]}" for name, module in JOBS.items()]
    return (
        "Raw text to a trained LLaMA on a Ray cluster.\n\nusage: raypt JOB [--config FILE] [dotted.key=value ...]\n\n"
        + "\n".join(lines)
        + "\n\nLook at runs: "
        + ", ".join(f"raypt {name}" for name in TOOLS if name != "completion")
        + ".\n`raypt JOB --help` explains a job; `raypt --version` says which raypt this is; `raypt completion SHELL`\n"
        "prints what makes bash, zsh or fish complete all of this."
    )


def run(argv: list[str]) -> int:
    """Run the job that the first argument names; its exit status."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"raypt {__version__}")
        return 0
    name = argv[0]
    if name in TOOLS:
        return _tool(name, argv[1:])
    if name not in JOBS:
        near = difflib.get_close_matches(name, [*JOBS, *TOOLS], 1, 0.4)
        hint = f"; did you mean {near[0]}?" if near else "."
        print(f"raypt: there is no job {name!r}{hint} Jobs are {', '.join([*JOBS, *TOOLS])}", file=sys.stderr)
        return 2
    if name == "bench":
        from raypt.run import bench

        return bench.main(argv[1:])
    if name == "study":
        from raypt.run.study import job as study

        return study.start(argv[1:])
    from raypt.run.job import run_job

    arguments = ["plan.json_only=true" if name == "plan" and a == "--json" else a for a in argv[1:]]
    return run_job(name, JOBS[name], job_doc(JOBS[name]), arguments)


def _tool(name: str, argv: list[str]) -> int:
    module, function = TOOLS[name]
    if argv[:1] in (["-h"], ["--help"]):
        print(job_doc(module))
        return 0
    from raypt.errors import UserError

    try:
        return int(getattr(importlib.import_module(module), function)(argv))
    except UserError as e:
        print(f"raypt {name}: {e}", file=sys.stderr)
        return 2


def main() -> None:
    """The console command."""
    sys.exit(run(sys.argv[1:]))
