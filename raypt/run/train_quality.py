"""Train a quality classifier: reference text against raw pages.

`curation.quality.reference` names sources of good text, `curation.quality.raw` (or `corpus.sources`) the raw pages.
Leaves a model with its metrics and a calibration plot in `<run.dir>/quality`. Any later run uses it by
`curation.quality.model=<run.dir>/quality`.
"""

from raypt.corpus import python_docs
from raypt.curation.quality.report import summary, write_report
from raypt.errors import UserError
from raypt.ray_session import session
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import freeze_inputs, prepare_quality, resolve_builtin
from raypt.run.open import open_run


def main(config: RunConfig) -> None:
    config = resolve_builtin(config)
    quality = config.curation.quality
    if quality.model is not None:
        raise UserError(f"curation.quality.model: {quality.model} is trained already; leave the key out to train one")
    if not quality.reference:
        raise UserError("curation.quality.reference: name the sources of good text to train on")
    if not config.curation.runs("quality"):
        raise UserError('curation.stages: name "quality" among the stages to train its classifier')
    check(config)
    with open_run(config, "train-quality") as run, session(config.ray):
        if any(python_docs.is_embedded(s) for s in (*config.corpus.sources, *quality.reference)):
            python_docs.materialize(config.corpus.builtin, run.uri)
        model = prepare_quality(config, run, freeze_inputs(config, run))
    assert model is not None, "the stage is on and has reference sources"
    print(summary(model.card))
    print(f"model in {model.uri}, calibration plot in {write_report(model.card, model.uri)}")
