"""What data, size and repetition do to a model: a study of small trainings, or the fit of a law to a table of runs.

raypt study --config STUDY.yaml [dotted.key=value ...]
raypt study fit FILE... --law chinchilla|isoflop|envelope|repetition|mixture
raypt study pairs pairs/en|pairs/zh|facts/en|facts/zh [--count N] [--seed S] > questions.jsonl

A study is a base, variants of it (what differs, by dotted key), and seeds. What variants have in common is made once;
trainings run side by side on the Ray cluster; all are judged on the same held-out documents, which no variant's text
holds. `study.html` has the answer with its interval, `study.parquet` every step of every training, `runs.parquet` a row
a training, `study.json` the figures. The same command resumes. Ready ones are in jobs/configs/studies/.

`raypt study fit` gives parameters under the papers' names with bootstrap intervals, and what follows from them;
`raypt study fit --help` says more.
"""

import argparse
import itertools
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from raypt import storage
from raypt.config_io import Loaded
from raypt.run.study.config import HeldoutSet, StudyConfig

log = logging.getLogger("raypt")


def start(argv: list[str]) -> int:
    """`raypt study ...`; the exit status."""
    # Before scipy is loaded: its L-BFGS on a few parameters is 40 times slower when BLAS has threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if argv[:1] == ["fit"]:
        from raypt.run.study import fit

        return fit.main(argv[1:])
    if argv[:1] == ["pairs"]:
        return pairs(argv[1:])
    from raypt.run.job import run_job

    return run_job("study", __name__, __doc__ or "", argv, StudyConfig)


def pairs(argv: list[str]) -> int:
    """`raypt study pairs`: the questions that `builtin:NAME` stands for, or more of them, as JSON Lines."""
    from raypt.training import made

    parser = argparse.ArgumentParser(prog="raypt study pairs", description=made.__doc__)
    parser.add_argument("name", choices=made.names())
    parser.add_argument("--count", type=int, default=made.COUNT, help="of minimal pairs (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    sys.stdout.writelines(made.lines(arguments.name, arguments.count, arguments.seed))
    return 0


def main(loaded: Loaded[StudyConfig]) -> None:
    """Run a study."""
    from raypt.lease import hold
    from raypt.ray_session import check_capacity, session

    config = loaded.config
    began = time.time()
    with hold(storage.join(config.uri, "work", "lease"), "study"), session(config.base.ray):
        needs = {"a training": config.study.cpus_per_training}
        check_capacity(needs, config.study.gpus_per_training, autoscaling=config.base.ray.autoscaling)
        answer = run_study(config, loaded.tree.get("base") or {}, began)
    print(f"\n{answer['sentence']}\n{answer['interval']}\nstudy: {storage.join(config.uri, 'study.html')}")


def run_study(config: StudyConfig, base: Mapping[str, Any], began: float) -> dict[str, Any]:
    """Make the data, train, judge, answer, on the Ray that runs, or in this process where none does. Returns what
    study.json holds."""
    from raypt.run.study import freshness
    from raypt.run.study.branches import families, train_family
    from raypt.run.study.data import Workshop
    from raypt.run.study.kinds import ANSWERS
    from raypt.run.study.page import costs, page
    from raypt.run.study.results import Trial, judged, runs_table, steps_table
    from raypt.run.study.train import plan_training
    from raypt.run.study.variants import flops_per_token, resolve
    from raypt.tasks import run_tasks

    reference, variants = resolve(config, base)
    workshop = Workshop(config.uri, reference.run.seed)
    mixture = reference.tokens.mixture
    heldout = workshop.heldout(workshop.side(reference), judges(config), mixture)
    if config.periods is not None:
        freshness.check(config.periods.naming.ranges, heldout.groups(mixture))
    base_side = workshop.side(reference, heldout)
    trials = []
    for variant in variants:
        side = workshop.side(variant.config, heldout)
        tokens = workshop.tokens(variant.config, side, base_side, heldout)
        for seed in config.study.seeds:
            training = plan_training(variant.config, tokens, heldout, seed, config.uri)
            trials.append(
                Trial(
                    variant,
                    seed,
                    training,
                    training.worker.model.parameters(),
                    flops_per_token(variant.config, tokens.tokenizer.vocab_size),
                    tokens.tokens,
                    side.curated.documents,
                )
            )
    distinct = {t.training.identity.key: t for t in trials}
    longest_first = sorted(distinct.values(), key=lambda t: -t.tokens * t.flops_per_token)
    together = families([t.training for t in longest_first])
    log.info(
        "%d trainings of %d variants, %d distinct, in %d families",
        len(trials),
        len(variants),
        len(distinct),
        len(together),
    )
    cpus, gpus = config.study.cpus_per_training, config.study.gpus_per_training
    labels = config.base.train.labels
    trained = run_tasks(train_family, together, name="train", num_cpus=cpus, num_gpus=gpus, labels=labels)
    cards = list(itertools.chain.from_iterable(trained))
    found, steps = judged(trials), steps_table(trials)
    runs = runs_table(trials, found)
    runs_uri = storage.join(config.uri, "runs.parquet")
    storage.write_parquet(runs_uri, runs)
    storage.write_parquet(storage.join(config.uri, "study.parquet"), steps)
    answer = ANSWERS[config.study.kind](config, trials, found, runs_uri)
    cost = costs(workshop, heldout, trials, [c.account for c in cards], time.time() - began)
    html = page(config, answer, trials, steps, runs, cost)
    storage.write_bytes(storage.join(config.uri, "study.html"), html.encode())
    figures = {"sentence": answer.sentence, "interval": answer.interval, "cost": cost, **answer.figures}
    storage.write_json(storage.join(config.uri, "study.json"), fit_plain(figures))
    return figures


def judges(config: StudyConfig) -> HeldoutSet:
    """What is held out: of periods, as much of each."""
    if config.periods is None:
        return config.heldout
    return config.heldout.model_copy(update={"balanced": True, "groups": config.periods.naming.ranges})


def fit_plain(value: Any) -> Any:
    """As JSON has it."""
    from raypt.run.study.fit import plain

    return plain(value)
