"""How good a classifier is, measured on documents it was not trained on."""

from typing import NotRequired, TypedDict

import numpy as np
import pyarrow as pa


class Percentiles(TypedDict):
    """Scores of a group of raw documents: `scores[p]` is the p-th percentile, p = 0..100."""

    documents: int
    scores: list[float]
    dropped: NotRequired[list[list[float]]]
    """`dropped[p]`: the 95 % interval of the share of further raw documents (%) below `scores[p]`. Cards of earlier
    versions lack it."""


class Confusion(TypedDict):
    """Documents by label and prediction at score 0.5; rates are null where they have no denominator."""

    documents: int
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int
    accuracy: float | None
    balanced_accuracy: float | None
    precision: float | None
    recall: float | None


class CalibrationBin(TypedDict):
    """Documents scored in one tenth of [0, 1]: how many, their mean score, and the share that is reference text."""

    low: float
    documents: int
    mean_score: float | None
    reference_fraction: float | None


def _ratio(a: int, b: int) -> float | None:
    return round(a / b, 6) if b else None


def confusion(score: np.ndarray, is_reference: np.ndarray) -> Confusion:
    said = score >= 0.5
    tp, fp = int((said & is_reference).sum()), int((said & ~is_reference).sum())
    fn, tn = int((~said & is_reference).sum()), int((~said & ~is_reference).sum())
    recall, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    balanced = round((recall + specificity) / 2, 6) if recall is not None and specificity is not None else None
    return Confusion(
        documents=len(score),
        true_positive=tp,
        false_positive=fp,
        true_negative=tn,
        false_negative=fn,
        accuracy=_ratio(tp + tn, len(score)),
        balanced_accuracy=balanced,
        precision=_ratio(tp, tp + fp),
        recall=recall,
    )


def confusion_by(score: np.ndarray, is_reference: np.ndarray, group: pa.Array) -> dict[str, Confusion]:
    """`confusion` for each value of `group` (nulls are left out), by name."""
    names = group.to_numpy(zero_copy_only=False)
    present = sorted({n for n in names if n is not None})
    return {str(n): confusion(score[names == n], is_reference[names == n]) for n in present}


def area_under_roc(score: np.ndarray, is_reference: np.ndarray) -> float | None:
    """Probability that a reference document scores above a raw one, ties counting half; null if a side is empty."""
    n_ref, n_raw = int(is_reference.sum()), int((~is_reference).sum())
    if not n_ref or not n_raw:
        return None
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2.0
    rank_sum = float(mean_rank[inverse][is_reference].sum())
    return round((rank_sum - n_ref * (n_ref + 1) / 2) / (n_ref * n_raw), 6)


def dropped_interval(percentile: float, documents: int) -> tuple[float, float]:
    """Between what shares (%) of further documents a score bound drops, with 95 % certainty, that is this percentile of
    so many scores: below the k-th smallest of n lies a share that is Beta(k, n + 1 - k) distributed, whatever the
    scores' distribution (David and Nagaraja, Order Statistics, 2003, section 2.3); numpy interpolates k."""
    k = 1 + percentile / 100 * (documents - 1)
    from scipy import special  # a tenth of a second that every worker of other stages is spared

    low, high = (100 * float(special.betaincinv(k, documents + 1 - k, q)) for q in (0.025, 0.975))
    return round(low, 2), round(high, 2)


def shown_interval(percentile: float, documents: int) -> str:
    """`dropped_interval` for a reader: `3–27 %`."""
    low, high = dropped_interval(percentile, documents)
    return f"{low:.0f}–{high:.0f} %"


def percentiles_of(score: np.ndarray) -> Percentiles:
    n = len(score)
    return Percentiles(
        documents=n,
        scores=[round(float(v), 7) for v in np.percentile(score, np.arange(101))],
        dropped=[[*dropped_interval(p, n)] for p in range(101)],
    )


def score_percentiles(score: np.ndarray, groups: dict[str, pa.Array]) -> dict[str, dict[str, Percentiles]]:
    """`{"all": {"": ...}, group name: {value: ...}}` of the raw documents; nulls count in "all" only."""
    out: dict[str, dict[str, Percentiles]] = {"all": {"": percentiles_of(score)} if len(score) else {}}
    for name, values in groups.items():
        array = values.to_numpy(zero_copy_only=False)
        present = sorted({v for v in array if v is not None})
        out[name] = {str(v): percentiles_of(score[array == v]) for v in present}
    return out


def calibration(score: np.ndarray, is_reference: np.ndarray, bins: int = 10) -> list[CalibrationBin]:
    """Predicted against observed share of reference text. Both sides count the same, whatever their sizes."""
    n_ref, n_raw = int(is_reference.sum()), int((~is_reference).sum())
    weight = np.where(is_reference, 0.5 / max(n_ref, 1), 0.5 / max(n_raw, 1))
    index = np.minimum((score * bins).astype(int), bins - 1)
    out = []
    for b in range(bins):
        here = index == b
        total = float(weight[here].sum())
        out.append(
            CalibrationBin(
                low=b / bins,
                documents=int(here.sum()),
                mean_score=round(float((weight * score)[here].sum()) / total, 6) if total else None,
                reference_fraction=round(float(weight[here & is_reference].sum()) / total, 6) if total else None,
            )
        )
    return out
