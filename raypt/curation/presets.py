"""Published recipes: the order of their stages and the values of their thresholds.

Deduplication, and stages that need what a recipe does not publish, are not part of a preset.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Rae et al. 2021, appendix A1: quality, then repetition (paper order of description).
    "gopher": {"stages": ("gopher_quality", "gopher_repetition")},
    # Raffel et al. 2020, section 2.2: English at langdetect 0.99 (lid.176 is another classifier: same bound).
    "c4": {
        "stages": ("c4", "language"),
        "language": {"keep": ("en",), "score_min": 0.99},
        "c4": {"terminal_punctuation": True, "line_word_count_min": 5, "sentence_count_min": 3},
    },
}
