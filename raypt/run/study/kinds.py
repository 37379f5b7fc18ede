"""What is made of the runs, by `study.kind`."""

from collections.abc import Callable, Sequence

from raypt.run.study import answer, answers_of_time
from raypt.run.study.answer import Answer
from raypt.run.study.config import StudyConfig
from raypt.run.study.results import Judged, Trial

ANSWERS: dict[str, Callable[[StudyConfig, Sequence[Trial], Judged, str], Answer]] = {
    "compare": answer.compare,
    "scale": answer.scale,
    "repetition": answer.repetition,
    "mixture": answer.mixture,
    "freshness": answers_of_time.freshness,
    "learned": answers_of_time.learned,
}
