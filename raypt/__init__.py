"""raypt: raw text to a trained LLaMA on a Ray cluster, in one job."""

__version__ = "0.1.0"

import os
import sys

if "RAYPT_MARKS_LINES" in os.environ and sys.argv[0].endswith("default_worker.py"):  # a worker of a job's own Ray
    from raypt.ray_output import mark_lines

    mark_lines()
