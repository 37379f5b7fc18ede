"""What takes minutes of studies:

    python -m tests.jobs.study_commands twelve|killed|junk|mixture|repetition [--dir DIR] [--steps N]

twelve   12 variants on two cores: documents are curated once for each way of curating, and what it costs is held
         against the sum of its trainings
killed   the driver and all its processes are killed in the middle of training; the same command gives the same table
junk     junk planted in the shared web pages: the rules that remove it are the ones named as gains
mixture, repetition   the ready studies: the weight of the source that the held-out text is of rises; a token is worth
         less each time that it is seen
The same command goes on where it was stopped.
"""

import argparse
import contextlib
import copy
import gzip
import itertools
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.jobs.helpers import run_job, start_job
from tests.jobs.study_corpus import STUDY, write, write_corpus

PAGES = Path(__file__).resolve().parents[2].parent / "shared" / "corpora" / "web" / "pages_text.dev.jsonl.gz"
READY = Path(__file__).resolve().parents[2] / "jobs" / "configs" / "studies"
RATES = (1e-3, 2e-3, 3e-3, 5e-3, 8e-3, 1.2e-2)


def run(directory: Path, config: dict[str, Any], *more: str) -> dict[str, Any]:
    (directory / "study.yaml").write_text(yaml.safe_dump(config))
    done = run_job("study.py", "--config", "study.yaml", *more, cwd=directory, timeout=3600)
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    print(done.stdout)
    return dict(json.loads((directory / config["study"]["dir"] / "study.json").read_text()))


def twelve(directory: Path, steps: int) -> bool:
    """Six rates of learning on two ways of curating: 12 variants, two curations."""
    write_corpus(directory)
    config = copy.deepcopy(STUDY)
    config["base"]["train"] |= {"steps": steps, "evaluation": {"every_steps": None, "max_samples": 16}}
    # A model whose steps take as long as its trainings should be measured by.
    config["base"]["model"] |= {"hidden_size": 128, "intermediate_size": 256, "num_layers": 2}
    config["variants"] = [
        {"name": f"{name} {rate:g}", "set": {"train.optimizer.lr": rate, **sets}}
        for name, sets in (("clean", {}), ("raw", {"curation.stages": ["length"]}))
        for rate in RATES
    ]
    config["study"]["reference"] = "clean 0.003"
    began = time.time()
    cost = run(directory, config)["cost"]
    wall = time.time() - began
    steps_s, whole_s = (
        float(cost[k].replace(",", "")) for k in ("seconds of steps", "seconds of trainings, evaluated and judged")
    )
    cores = min(2, psutil.cpu_count() or 1)
    share = wall * cores / whole_s
    print(json.dumps(cost, indent=1))
    print(
        f"wall x {cores} cores {wall * cores:.1f} s; steps {steps_s:.1f} s; trainings {whole_s:.1f} s; the study is "
        f"{share:.3f} of its trainings, and a training {whole_s / steps_s:.3f} of its steps"
    )
    once = cost["documents read and tagged"] == "2,000" and cost["trainings, each made once"] == "12 of 12"
    return once and share <= 1.05  # what is not training takes a minute, however long the trainings are


def tables(study: Path) -> tuple[pa.Table, pa.Table]:
    return pq.read_table(study / "study.parquet").drop_columns(["step_s"]), pq.read_table(study / "runs.parquet")


def killed(directory: Path, steps: int) -> bool:
    """SIGKILL of the driver, Ray and the workers at each third of the trainings."""
    write_corpus(directory)
    config = copy.deepcopy(STUDY)
    config["base"]["train"]["steps"] = steps
    run(directory, config)
    for _ in range(2):
        process = start_job("study.py", "--config", "study.yaml", "study.dir=again", cwd=directory)
        had = len(list((directory / "again").glob("trainings/*/checkpoints/step-*/manifest.json")))
        deadline = time.time() + 600
        while len(list((directory / "again").glob("trainings/*/checkpoints/step-*/manifest.json"))) <= had:
            if process.poll() is not None or time.time() > deadline:
                sys.exit((directory / "killed.log").read_text()[-4000:])
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        for one in family:  # Ray's own too: nothing of it outlives the driver by more than a moment
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
        assert not (directory / "again" / "study.html").exists()
        print(
            "killed after", sorted(p.parent.name for p in (directory / "again").glob("trainings/*/checkpoints/step-*"))
        )
    again = config | {"study": config["study"] | {"dir": "again"}}
    run(directory, again)
    return all(a.equals(b) for a, b in zip(tables(directory / "study"), tables(directory / "again"), strict=True))


def numbers(rng: random.Random) -> str:
    """What Gopher's rules of quality remove: hardly a word, no stop word."""
    return "\n".join(f"#{rng.getrandbits(64):x} {rng.getrandbits(40)} | {rng.random():.9f}" for _ in range(60))


def repeated(rng: random.Random, lines: list[str]) -> str:
    """What Gopher's rules of repetition remove: a line of a page, many times, between others."""
    again = rng.choice(lines)
    return "\n".join(line for _ in range(30) for line in (again, rng.choice(lines), again))


def junk(directory: Path, steps: int) -> bool:
    """English pages of the shared web corpus, with as much junk of each of three kinds as there are pages: the rules
    that remove a kind are gains, left out of all or added to a text with that kind; one that removes none is none."""
    rng = random.Random(3)
    with gzip.open(PAGES, "rt", encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    texts = [r["text"] for r in rows if r["lang"] == "en"]
    # Junk is made of two pages, neither of which is trained on or held out: they are learned by heart in some steps and
    # then teach nothing, as a notice that stands on every page; many pages would, and held-out ones tell the answer.
    apart = [t for t in texts[::8] if 2_000 < len(t) < 6_000][:2]
    pages = [t for i, t in enumerate(texts) if i % 8]
    lines = [x for t in apart for x in t.splitlines() if 60 < len(x) < 200]
    share = sum(map(len, pages))

    def filled(make: Any) -> list[str]:
        out, size = [], 0
        while size < share:
            out.append(make())
            size += len(out[-1])
        return out

    for name, texts in (
        ("pages", pages),
        ("numbers", filled(lambda: numbers(rng))),
        ("repeated", filled(lambda: repeated(rng, lines))),
        ("copies", filled(lambda: rng.choice(apart))),
    ):
        for part in range(2):
            if not (place := directory / name / f"{part}.jsonl").exists():  # a changed file would be another study
                write(place, texts[part::2])
    off = {"dedup.enabled": False}
    by_rule: dict[str, dict[str, Any]] = {
        "quality": {"curation.stages": ["length", "gopher_quality"], **off},
        "repetition": {"curation.stages": ["length", "gopher_repetition"], **off},
        "duplicates": {"curation.stages": ["length"]},
    }
    """What a text that nothing was removed of is given, by rule."""
    removed_by = {"numbers": "quality", "repeated": "repetition", "copies": "duplicates"}

    def sources(*names: str) -> list[dict[str, str]]:
        return [{"name": name, "paths": f"{name}/*.jsonl"} for name in names]

    of_one_kind = []
    for kind in removed_by:
        planted = {"corpus.sources": sources("pages", kind)}
        of_one_kind.append({"name": kind, "set": {**planted, "curation.stages": ["length"], **off}})
        of_one_kind += [
            {"name": f"{kind}, {rule}", "against": kind, "set": {**planted, **sets}} for rule, sets in by_rule.items()
        ]
    config = {
        "study": {
            "dir": "junk",
            "question": "Which rule removes the junk?",
            "reference": "all rules",
            "seeds": [0, 1, 2],
        },
        "base": {
            "ray": {"dashboard": False},
            "corpus": {"sources": sources("pages", *removed_by)},
            "curation": {"stages": ["length", "gopher_repetition", "gopher_quality"], "language": {"assume": "en"}},
            "dedup": {"fuzzy": {"enabled": False}},
            "tokens": {"tokenizer": {"vocab_size": 1024}, "packing": {"sequence_length": 128}},
            "model": {"hidden_size": 64, "intermediate_size": 192, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2},
            "train": {
                "steps": steps,
                "global_batch_tokens": 4096,
                "micro_batch_size": 32,
                "optimizer": {"lr": 1e-3},
                "checkpoint": {"every_steps": 50},
                "evaluation": {"every_steps": None, "max_samples": 16},
            },
        },
        "heldout": {"fraction": 0.2, "max_documents": 80, "groups": ["pages"]},
        "variants": [
            {"name": "all rules"},
            # Each rule left out where all three kinds are, and added by itself where one kind is.
            {"name": "without quality", "set": {"curation.stages": ["length", "gopher_repetition"]}},
            {"name": "without repetition", "set": {"curation.stages": ["length", "gopher_quality"]}},
            {"name": "without duplicates", "set": off},
            *of_one_kind,
        ],
    }
    found = run(directory, config)
    fine = True
    for name, gap in found["differences"].items():
        low, high = gap["interval"]
        kind, _, rule = name.partition(", ")
        if name.startswith("without "):
            gain, wanted = low > 0, True
        elif rule:
            gain, wanted = high < 0, removed_by[kind] == rule
        else:
            continue  # a text with one kind of junk, beside one without any: what the rules are added to
        print(
            f"{name:22} {gap['value']:+.4f} [{low:+.4f}, {high:+.4f}] against {gap['against']}, {gap['documents']:+,} "
            f"documents: {'a gain' if gain else 'no clear gain'}{'' if gain == wanted else ' (WRONG)'}"
        )
        fine &= gain == wanted
    print(json.dumps(found["stability"], indent=1))
    return fine


def ready(directory: Path, name: str) -> dict[str, Any]:
    """A study of jobs/configs/studies as it is, but for its directory."""
    config = yaml.safe_load((READY / f"{name}.yaml").read_text())
    return run(directory, config | {"study": config["study"] | {"dir": name}})


def mixture(directory: Path, steps: int) -> bool:
    best = ready(directory, "mixture")["best_mixture"]
    print(json.dumps(best, indent=1))
    return bool(best["weight_readme"] > max(1 / 3, *(best[k] for k in best if k != "weight_readme")))


def repetition(directory: Path, steps: int) -> bool:
    worth = ready(directory, "repetition")["worth_of_epoch"]
    values = [worth[k]["value"] for k in sorted(worth, key=int)]
    print(json.dumps(worth, indent=1))
    return values[0] < 1 and all(a > b for a, b in itertools.pairwise(values))


WHAT = {"twelve": twelve, "killed": killed, "junk": junk, "mixture": mixture, "repetition": repetition}
STEPS = {"twelve": 3400, "killed": 120, "junk": 300, "mixture": 0, "repetition": 0}
"""Of each training, unless the command says otherwise; the ready studies have their own."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(WHAT))
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--steps", type=int, help=f"of each training; default: {STEPS}")
    arguments = parser.parse_args()
    directory = arguments.dir or Path(tempfile.mkdtemp(prefix="study-"))
    directory.mkdir(parents=True, exist_ok=True)
    fine = WHAT[arguments.what](directory, arguments.steps or STEPS[arguments.what])
    print("holds" if fine else "DOES NOT HOLD")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
