"""An adapter to lm-evaluation-harness (the extra `lm-eval`): its tasks ask, our model answers."""

from collections.abc import Sequence
from typing import Any

from raypt.errors import UserError
from raypt.model.scoring import windows
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.judged import Judged
from raypt.training.questions import split_pair


def adapter(model: Judged, tokenizer: Tokenizer) -> Any:
    """An `lm_eval.api.model.LM` over the model."""
    try:
        from lm_eval.api.model import LM
    except ImportError as e:
        raise UserError("evaluate.tasks needs lm-evaluation-harness: pip install 'raypt[lm-eval]'") from e

    # A text begins as it did in training; a continuation of nothing has to come after something all the same.
    bos = tokenizer.bos_id if tokenizer.adds_bos else None
    before = [] if bos is None else [bos]
    nothing = [next((i for i in (tokenizer.bos_id, tokenizer.eos_id) if i is not None), 0)]

    class RayptLM(LM):  # type: ignore[misc,unused-ignore]
        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            split = (split_pair(tokenizer, *request.args) for request in requests)
            pairs = [([*before, *context] or nothing, continuation) for context, continuation in split]
            return [(s.log_probability, s.is_greedy) for s in model.score(pairs)]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            out = []
            for request in requests:
                ids = tokenizer.encode(request.args[0])
                out.append(model.log_probability(list(windows(ids, bos, model.max_length, model.max_length))))
            return out

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            out = []
            for request in requests:
                context, options = request.args
                until = options.get("until") or []
                until = [until] if isinstance(until, str) else until
                limit = int(options.get("max_gen_toks", 128))
                ids = ([*before, *tokenizer.encode(context)] or nothing)[-max(1, model.max_length - limit) :]
                new = model.generate(
                    ids,
                    max_new_tokens=limit,
                    temperature=float(options.get("temperature") or 0.0) if options.get("do_sample") else 0.0,
                    stop=tokenizer.eos_id,
                )
                text = tokenizer.decode(new)
                ends = [text.find(s) for s in until if s and s in text]
                out.append(text[: min(ends)] if ends else text)
            return out

    return RayptLM()


def run_tasks(
    model: Judged,
    tokenizer: Tokenizer,
    tasks: Sequence[Any],
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Task name -> its metrics. `tasks`: names the harness knows, or its task objects or configurations."""
    lm = adapter(model, tokenizer)
    import lm_eval

    results = lm_eval.simple_evaluate(
        model=lm, tasks=list(tasks), limit=limit, num_fewshot=num_fewshot, bootstrap_iters=0, log_samples=False
    )
    return {
        task: {k: v for k, v in metrics.items() if isinstance(v, int | float | str)}
        for task, metrics in results["results"].items()
    }
