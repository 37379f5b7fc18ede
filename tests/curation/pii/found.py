"""What the masker finds in one text, as (kind, value) pairs, for tests to read."""

import pyarrow as pa

from raypt.curation.pii.config import USUAL_KINDS, Kind, PiiConfig
from raypt.curation.pii.mask import mask_pii


def found(text: str, *kinds: Kind) -> list[tuple[str, str]]:
    _, spans, _ = mask_pii(pa.array([text]), PiiConfig(kinds=kinds or USUAL_KINDS))
    data = text.encode()
    return [(s["kind"], data[s["start"] : s["end"]].decode()) for s in spans[0].as_py()]


def values(text: str, kind: Kind) -> list[str]:
    return [value for _, value in found(text, kind)]
