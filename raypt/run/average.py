"""Average the weights of a run's last checkpoints: the mean as a Hugging Face directory.

`raypt average run.dir=RUN export.average=5` writes the mean of the newest five checkpoints' weights (with `export.step`
of that one and the four before it) to the run's `averaged/`, or to `export.out`; unset, `export.average` is 5 here.
Weights of a constant learning rate averaged are worth a part of its decay (Kaddour 2022, LAWA; Llama 3 averages over
its annealing). Compare it with `raypt evaluate`, or go on from it with `train.init.from`. What is averaged must still
be there: see `train.checkpoint.keep_last`.
"""

from raypt.run.config import RunConfig
from raypt.run.export import write_export

UNSET = 5


def main(config: RunConfig) -> None:
    write_export(config, "averaged", config.export.average if config.export.average > 1 else UNSET)
