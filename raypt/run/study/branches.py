"""One long WSD run a size gives several D by short decays (Hu et al. 2024; Hägele et al. 2024).

Trainings that differ in nothing but their steps, under a WSD schedule, are the same until the first of them decays.
They are a *family*: the longest is the trunk, the others branch off its checkpoints, each where its own decay begins.
What comes out is what each would have been alone, bit for bit; only the trunk's steps and the decays' are made.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from raypt import storage
from raypt.artefact import Card, hash_of
from raypt.run.study.sharing import share_directory
from raypt.run.study.train import BRANCH, Training, advance, finished, train

if TYPE_CHECKING:
    from raypt.training.checkpoint.manifest import CheckpointInfo


def families(trainings: Sequence[Training]) -> list[tuple[Training, ...]]:
    """Families in the order of their first members; the members of each by steps, the trunk last."""
    groups: dict[str, list[Training]] = {}
    for training in trainings:
        groups.setdefault(_stem(training) or training.identity.key, []).append(training)
    return [tuple(sorted(members, key=lambda t: t.steps)) for members in groups.values()]


def _stem(training: Training) -> str | None:
    """What members of a family have in common; None where nothing can branch off."""
    schedule = training.worker.train.schedule
    if schedule.kind != "wsd" or schedule.steps is not None:
        return None
    settings = {**training.identity.settings, "train": {**training.identity.settings["train"]}}
    del settings["train"]["steps"]
    # Without warmup_steps it depends on the length of short runs.
    return hash_of([training.identity.inputs, settings, warmup(training)])


def warmup(training: Training) -> int:
    """Updates before the flat part."""
    said = training.worker.train.schedule.warmup_steps
    return min(20, training.steps // 2) if said is None else int(said)


def branching(training: Training) -> int:
    """Steps before the decay: as `lr_scale` has them."""
    decay = max(1, round(training.steps * training.worker.train.schedule.decay_fraction))
    return int(max(warmup(training), training.steps - decay))


def train_family(family: tuple[Training, ...]) -> list[Card]:
    """Train all members; nothing where that was done. Cards in the order of the members."""
    *branches, trunk = family
    cards = []
    for branch in branches:
        if not finished(branch) and not storage.exists(storage.join(branch.uri, BRANCH)):
            _branch_off(trunk, branch, branching(branch))
        cards.append(train(branch))
    return [*cards, train(trunk)]


def _branch_off(trunk: Training, branch: Training, at: int) -> None:
    """Bring the trunk to step `at`, and give its checkpoint and metrics to the branch. Where the trunk is past it (a
    branch that was thought of later), the branch is trained from its beginning.
    """
    from raypt.training.checkpoint.directory import latest_checkpoint
    from raypt.training.checkpoint.manifest import MANIFEST

    newest = latest_checkpoint(_checkpoints(trunk))
    if newest is not None and newest.step > at:
        return
    newest = _until(trunk, at)
    assert newest.step == at
    rows = storage.read_bytes(storage.join(trunk.uri, "metrics.jsonl"))
    storage.write_bytes(storage.join(branch.uri, "metrics.jsonl"), rows)
    share_directory(newest.uri, storage.join(_checkpoints(branch), newest.name), MANIFEST)
    storage.write_json(storage.join(branch.uri, BRANCH), {"trunk": trunk.uri, "step": at})


def _until(trunk: Training, step: int) -> "CheckpointInfo":
    """The trunk's checkpoint of that step: on the schedule of the whole trunk."""
    train = trunk.worker.train
    update = {
        "steps": step,
        "schedule": train.schedule.model_copy(update={"steps": trunk.steps}),
        "evaluation": train.evaluation.model_copy(update={"at_end": False}),
    }
    return advance(replace(trunk, worker=replace(trunk.worker, train=train.model_copy(update=update))))


def _checkpoints(training: Training) -> str:
    return storage.join(training.uri, "checkpoints")
