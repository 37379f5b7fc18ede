"""What a run needs, before it costs anything: does it fit, how long, what does it cost, which settings are best.

Reads the configuration alone: no data, no GPUs, no Ray (but for plan.cluster=live). Say the machines with
`plan.cluster={accelerator: h100, nodes: 8}`, or let one be sized with `plan.days=30` or `plan.budget=1e6`.
`--json` prints JSON; `plan.page=FILE` writes a page with pictures, `plan.yaml=FILE` the best configuration.
"""

import json

from raypt import storage
from raypt.config_io import dump_yaml
from raypt.run.config import RunConfig
from raypt.run.planner.answer import answer, best_config
from raypt.run.planner.page import page
from raypt.run.planner.table import text


def main(config: RunConfig) -> None:
    found = answer(config)
    if config.plan.page is not None:
        storage.write_bytes(storage.absolute(config.plan.page), page(found).encode())
    if config.plan.yaml is not None:
        storage.write_bytes(storage.absolute(config.plan.yaml), dump_yaml(best_config(found)).encode())
    print(json.dumps(found.to_json(), allow_nan=False) if config.plan.json_only else text(found))
