"""Print the constants of `raypt.run.planner.catalogue`, fitted to all published runs: `python -m
tests.run.planner.constants`."""

from dataclasses import fields

from raypt.run.planner.fit import PIPELINE_FIXED, PIPELINE_PRIORS, fit
from raypt.run.planner.step_time import Constants, stacked
from tests.run.planner import published


def pipelines() -> Constants:
    rows = published.megatron() + published.korthikanti()
    steps = published.np.array([s for _, _, s in rows])
    return fit(
        stacked([w for _, w, _ in rows]),
        steps,
        peak=published.A100_PEAK,
        bandwidth=published.A100_BANDWIDTH,
        priors=PIPELINE_PRIORS,
        fixed=PIPELINE_FIXED,
    )


def sharded(accelerator: str, without: str | None = None) -> Constants:
    """From the runs on an accelerator, those of one model size left out."""
    rows = [r for r in published.foundry() if r.accelerator == accelerator and r.name != without]
    return fit(*published.arrays(rows), peak=published.PEAKS[accelerator], bandwidth=1e12)


if __name__ == "__main__":
    for name in published.PEAKS:
        print(name, sharded(name))
    found = pipelines()
    print("pipelines", {f.name: getattr(found, f.name) for f in fields(found)})
