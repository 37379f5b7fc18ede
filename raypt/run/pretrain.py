"""Raw text to a trained LLaMA, in one job.

Reads the sources, curates and deduplicates them, trains a tokenizer, and trains a LLaMA on the packed stream while the
rest of the text is still being tokenized. Everything is under one run directory; the same command resumes.
"""

import logging
import time
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

import ray

from raypt import storage
from raypt.curation.deciding import labels_summarised
from raypt.curation.distributions import summarised
from raypt.errors import UserError
from raypt.parallel.zero.deepspeed_config import check_deepspeed
from raypt.ray_session import check_capacity, session
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import Curated, curate, resolve_builtin
from raypt.run.nodes import check_nodes
from raypt.run.open import open_run
from raypt.run.planner.refusal import refuse_what_cannot_fit
from raypt.run.rehearsal import rehearsed
from raypt.run.sample import Sampling, ensure_sample
from raypt.run.stages import timed_stage
from raypt.run.starting import as_planned, with_start
from raypt.run.stream import config_as_used, measuring, start_stream, with_heldout
from raypt.run_dir import RunDir
from raypt.tokens.store.shards import HELDOUT, TokenAccount, tokens_by_source
from raypt.tokens.stream.account import account_samples
from raypt.tokens.stream.dataset import StreamDataConfig, make_train_dataset
from raypt.tokens.stream.producer import Tokenizing
from raypt.tokens.stream.spec import StreamSpec
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.entropy import unigram_entropy
from raypt.training.export import export_checkpoint
from raypt.training.on_ray.run import TrainResult, run_training
from raypt.training.on_ray.seats import check_seats
from raypt.training.sizes import check_mesh, check_workers, readers
from raypt.training.starting_point import StartingPoint, fitted

log = logging.getLogger("raypt")


def main(config: RunConfig) -> None:
    if config.train.backend == "mpi":
        raise UserError(
            "train.backend=mpi: MPI's processes are started by mpirun, not by Ray. Make the token store with `raypt "
            "tokenize`, then train on it: mpirun -n N python -m raypt.run.train_over_mpi, with the same settings"
        )
    config, found = with_start(resolve_builtin(config))
    worker_counts = check_workers(config.train, config.tokens.packing.sequence_length)
    check_mesh(config.model, config.train, config.tokens.packing.sequence_length)
    check_deepspeed(config.train.zero)
    check(config)
    with open_run(config, "pretrain") as run, rehearsed("pretrain", config), session(config.ray):
        check_capacity(*needs(config, worker_counts[0]), autoscaling=config.ray.autoscaling)
        check_seats(config.train, worker_counts, config.model, ray.nodes(), autoscaling=config.ray.autoscaling)
        check_nodes(config, run)
        refuse_what_cannot_fit(as_planned(config, found), worker_counts[-1], ray.nodes())
        curated = curate(config, run, measure=partial(measuring, config, run))
        config = with_heldout(config, curated.documents)
        spec, tokenizer, tokenizing = start_stream(config, run, curated, worker_counts)
        result = train(config, run, spec, tokenizer, tokenizing, found)
        finish(config, run, curated, spec, result, tokenizing.wait())


def needs(config: RunConfig, workers: int) -> tuple[dict[str, float], float]:
    """CPUs, by what they are for, and GPUs that training with that many workers needs at the same time."""
    cpus = {
        f"{workers} training workers": workers * config.train.cpus_per_worker,
        "a stream reader": config.tokens.stream.fetcher_cpus,
        "a tokenizing task": config.tokens.stream.tokenizer_cpus,
    }
    if config.train.strategy == "parameter_server":
        of = config.train.parameter_server
        cpus[f"{of.servers} parameter servers"] = of.servers * of.cpus_per_server
        if config.train.asynchronous:
            cpus["their leader"] = of.cpus_per_server
    return cpus, workers if config.train.use_gpu else 0


def train(
    config: RunConfig,
    run: RunDir,
    spec: StreamSpec,
    tokenizer: Tokenizer,
    tokenizing: Tokenizing,
    found: StartingPoint | None = None,
) -> TrainResult:
    """Train to the configured step; logs when training began and when tokenizing ended."""
    config = config_as_used(config, tokenizer)
    starting = None
    if found is None:
        model = config.model.for_vocabulary(tokenizer.vocab_size)
    else:
        model, starting = fitted(found, config.train, config.model, tokenizer)
    log.info("model: %s parameters, vocabulary %d", f"{model.parameters():,}", model.vocab)
    with timed_stage(run, "train"):
        result = run_training(
            model=model,
            train=config.train,
            sequence_length=config.tokens.packing.sequence_length,
            run_uri=run.uri,
            make_dataset=lambda cursor: make_train_dataset(spec, cursor),
            stream_fingerprint=spec.fingerprint,
            heldout_uri=storage.join(run.token_store, HELDOUT),
            tokenizer_uri=run.tokenizer,
            seed=config.run.seed,
            record_samples=config.run.record_samples,
            add_bos=config.tokens.packing.add_bos,
            starting=starting,
            data_config=StreamDataConfig(spec, readers=partial(readers, config.train)),
            afterwards=Sampling.of(config, run).judging,
            new=run.new,
        )
    ledgers = tokenizing.wait()
    assert tokenizing.ended_at is not None
    first = result.metrics[0]["time"]
    if first > tokenizing.started_at:  # else this is a resumed run, and both happened before
        log.info("the first training step ended at %s, tokenizing at %s", clock(first), clock(tokenizing.ended_at))
    log.info("tokens: %s in %d shards", f"{sum(ledger.packed_tokens for ledger in ledgers):,}", len(ledgers))
    return result


def finish(
    config: RunConfig,
    run: RunDir,
    curated: Curated,
    spec: StreamSpec,
    result: TrainResult,
    ledgers: list[TokenAccount],
) -> None:
    """Export, generated text where the workers have left none, summary and report. The driver exports, block by block
    from the checkpoint's pieces: it never holds the model.
    """
    export = config.export
    export_uri = storage.absolute(export.out) if export.out else run.path("export")
    with timed_stage(run, "export"):
        export_checkpoint(
            result.checkpoint, run.tokenizer, export_uri, precision=export.precision, shard_bytes=export.shard_bytes
        )
    ensure_sample(Sampling.of(config, run), run, result.checkpoint)
    unigram = unigram_entropy(run.token_store)
    samples = account_samples(spec, ledgers, result.checkpoint.cursor.next_sample)
    for source, counts in tokens_by_source(ledgers).items():
        if counts["unknown"]:
            log.warning(
                "tokens: %d of the %d tokens of %s are the unknown one", counts["unknown"], counts["text"], source
            )
    decisions = storage.read_json(run.decisions)
    figures = summary(curated, result, ledgers, unigram) | {
        "vocabulary": tokens_by_source(ledgers),
        "samples": [asdict(a) | {"tokens": (a.trained + a.repeats) * (spec.width - 1)} for a in samples],
        "by_language": summarised(decisions["distributions"]),
        "by_label": labels_summarised(decisions["labels"]),
    }
    storage.write_json(run.path("summary.json"), figures)
    loss, heldout = result.metrics[-1]["loss"], result.checkpoint.progress.heldout_loss
    shown = "" if heldout is None else f", held-out {heldout:.3f}"
    last = "not finite" if loss is None else f"{loss:.3f}"
    print(f"\nloss {last}{shown} nats a token; unigram entropy of the text {unigram:.3f}")
    print(f"model:  {export_uri}\nreport: {run.path('report.html')}")


def summary(curated: Curated, result: TrainResult, ledgers: list[TokenAccount], unigram: float) -> dict[str, Any]:
    """The run in figures: what the report shows at the top."""
    last = result.metrics[-1]
    totals = {
        key: sum(getattr(ledger, key) for ledger in ledgers)
        for key in ("documents", "bytes", "text_tokens", "packed_tokens", "samples", "padding", "split_documents")
    }
    read = next(iter(curated.ledger.stages.values()))
    return {
        "headline": {
            "documents in": read.entered.documents,
            "documents kept": curated.documents,
            "tokens in the store": totals["packed_tokens"],
            "tokens trained on": last["tokens"],
            **({} if last["loss"] is None else {"final loss (nats)": round(last["loss"], 4)}),
            "unigram entropy (nats)": round(unigram, 4),
        },
        "unigram_nats": unigram,
        "tokens": {
            **totals,
            "bytes_per_token": round(totals["bytes"] / max(totals["text_tokens"], 1), 3),
            "padding_fraction": round(totals["padding"] / max(totals["padding"] + totals["packed_tokens"], 1), 5),
        },
        "finished": time.time(),
    }


def clock(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp).strftime("%H:%M:%S.%f")[:-4]
