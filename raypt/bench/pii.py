"""Speed of PII masking on documents in memory.

--kinds all (default), email-ip (e-mail and public IP addresses alone), or kinds separated by commas. The text is masked
in Arrow batches of --batch documents; reading and compiling are not timed.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from raypt.bench.curation import load
from raypt.bench.measure import PeakMemory, measured, report_line
from raypt.curation.pii.config import KINDS, USUAL_KINDS, PiiConfig
from raypt.curation.pii.mask import mask_pii

GROUPS = {"all": USUAL_KINDS, "email-ip": ("email", "ipv4", "ipv6")}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.py pii", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="directory of *.jsonl.gz with id and text")
    parser.add_argument("--kinds", default="all", help=f"{', '.join(GROUPS)}, or some of {', '.join(KINDS)}")
    parser.add_argument("--limit", type=int, default=0, help="only the first N documents (0: all)")
    parser.add_argument("--batch", type=int, default=1000, help="documents a batch")
    parser.add_argument("--repeat", type=int, default=1, help="passes over the documents, all timed")
    args = parser.parse_args(argv)
    config = PiiConfig.model_validate({"kinds": GROUPS.get(args.kinds) or args.kinds.split(",")})
    text = load(args.corpus, args.limit).column("text").combine_chunks()
    batches = [text.slice(start, args.batch) for start in range(0, len(text), args.batch)]
    mask_pii(pa.array(["ann@example.com from 81.2.69.142", "ｂob@example.com"]), config)  # loads every kernel
    found: Counter[str] = Counter()
    changed = 0
    memory = PeakMemory()
    with measured() as section:
        for _ in range(args.repeat):
            for batch in batches:
                _, spans, counts = mask_pii(batch, config)
                found.update(counts)
                changed += sum(1 for n in spans.value_lengths().to_pylist() if n)
    report_line(
        f"PII {args.kinds}",
        section,
        docs=len(text) * args.repeat,
        nbytes=pc.sum(pc.binary_length(text)).as_py() * args.repeat,
        changed=changed,
        spans=dict(found),
        peak_rss_mb=round(memory.stop() / 1e6),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
