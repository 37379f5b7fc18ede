"""The classifiers of a run, before it starts: their labels against the configuration, their bytes for its identity."""

from typing import Any

from raypt import storage
from raypt.artefact import Identity, Output, Verify, hash_of, make
from raypt.curation.classify.config import Classify, mistakes
from raypt.curation.classify.model import bare, look
from raypt.errors import UserError
from raypt.run_dir import RunDir

FORMAT = 1
CARD_FILE = "card.json"


def check_settings(settings: Classify, key: str = "curation.classify") -> dict[str, str]:
    """sha256 of each model's file. Reads every file once.

    Raises:
        UserError: one line a mistake: a file that is no model, a label or a metric that is not there.
    """
    found, problems = {}, []
    for name, model in settings.models.items():
        try:
            found[name] = look(model, f"{key}.models.{name}")
        except UserError as e:
            problems.append(str(e))
    problems += mistakes(settings, {name: bare(file.labels) for name, file in found.items()}, key)
    if problems:
        raise UserError("\n".join(problems))
    return {name: file.sha256 for name, file in found.items()}


def prepare(run: RunDir, name: str, settings: Classify, verify: Verify) -> tuple[str, str]:
    """`(URI of the card that says which bytes the models of a stage have, fingerprint of these)`; `name` is the
    stage's in the run.

    Raises:
        UserError: as `check_settings`.
    """
    hashes = check_settings(settings)
    root = run.path("classify", name)

    def maker(output: Output) -> dict[str, Any]:
        return {"models": {model: {"sha256": sha256} for model, sha256 in hashes.items()}}

    make(Identity("classify", FORMAT, hashes), root, CARD_FILE, maker, verify=verify)
    return storage.join(root, CARD_FILE), hash_of(hashes)
