"""Evaluate a model: perplexity and bits per byte on files, and tasks of lm-evaluation-harness.

By default the model is the run's own export (`run.dir=...`); `evaluate.model` names any Hugging Face LLaMA directory.
Results are printed and written to `evaluation.json` in the run directory (or `evaluate.out`).
"""

import json

from raypt.run.config import RunConfig
from raypt.training.evaluate import evaluate_model


def main(config: RunConfig) -> None:
    print(json.dumps(evaluate_model(config.evaluate, config.corpus, config.run_uri), indent=1, ensure_ascii=False))
