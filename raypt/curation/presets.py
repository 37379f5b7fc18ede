"""Published recipes: the order of their stages and the values of their thresholds.

Where a recipe leaves a list to others (block lists, bad words, a classifier), the stage is there and waits for the
list; deduplication is configured in its own section. Every value can be overridden beside the preset.
"""

from typing import Any

from raypt.curation.fineweb2 import fineweb2

# Words that zhconv's table for zh-cn replaces by the Mainland's, written in Simplified characters.
TAIWAN_WORDS = (
    "公尺", "公厘", "帛琉", "滑鼠", "硬碟", "列印", "伺服器", "雷射", "巨集", "象牙海岸", "辛巴威", "波札那",
    "模里西斯", "吉里巴斯",
)  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    # Rae et al. 2021 (arXiv:2112.11446), appendix A1.
    # The stop words are those of the document's language, so it is identified first; none is dropped for it.
    "gopher": {
        "stages": ("language", "gopher_quality", "gopher_repetition"),
        "language": {"score_min": None},
    },
    # Raffel et al. 2020 (arXiv:1910.10683), section 2.2, and its TensorFlow Datasets code. The paper asks langdetect
    # for 0.99, which it says of nearly all English and lid.176 of nearly none: 0.3 is where lid.176 decides most nearly
    # as langdetect at 0.99 (95.0 % of 3,631 web pages, documentation and e-mails; at 0.99 on 46 %). "All but one of any
    # three-sentence span occurring more than once" goes in `dedup.sentences`, since it is a rule about the corpus.
    "c4": {
        "stages": ("c4", "language", "bad_words"),
        "language": {"keep": ("en",), "score_min": 0.3},
        "c4": {"terminal_punctuation": True, "line_word_count_min": 5, "sentence_count_min": 3},
    },
    # Penedo et al. 2024 (arXiv:2406.17557), and datatrove's examples/fineweb.py.
    "fineweb": {
        "stages": ("url", "language", "gopher_repetition", "gopher_quality", "c4", "fineweb", "pii"),
        "language": {"keep": ("en",), "score_min": 0.65},
        "fineweb": {"quote_after_stop": False},
        "pii": {"kinds": ("email", "ipv4")},
    },
    # Penedo et al. 2025 (arXiv:2506.20920), and its fineweb-2-pipeline.py. 53 languages have published thresholds
    # (fineweb2.py); scores are GlotLID's, which is loaded with `language.model`.
    "fineweb2": {
        "stages": ("url", "language", "gopher_repetition", "fineweb", "gopher_quality", "pii"),
        "language": {"score_min": None, **fineweb2()["language"]},
        "gopher_repetition": {
            "duplicate_paragraph_fraction_max": None,
            "duplicate_paragraph_char_fraction_max": None,
            "duplicate_line_char_fraction_max": None,
        },
        "fineweb": {
            "quote_after_stop": False,
            "short_line_fraction_max": None,
            "duplicate_line_char_fraction_max": 0.1,
        },
        "gopher_quality": fineweb2()["gopher_quality"],
        "pii": {"kinds": ("email", "ipv4")},
        "by_language": fineweb2()["by_language"],
    },
    # Penedo et al. 2023 (arXiv:2306.01116), appendix G.
    "refinedweb": {
        "stages": ("url", "language", "gopher_repetition", "gopher_quality", "refinedweb_lines"),
        "language": {"keep": ("en",), "score_min": 0.65},
    },
    # Li et al. 2024 (arXiv:2406.11794): baselines/baselines_configs/dclm_baseline_refinedweb.yaml, then the best
    # tenth by the classifier.
    "dclm": {
        "stages": ("url", "language", "dclm_quality", "dclm_repetition", "refinedweb_lines", "quality"),
        "language": {"keep": ("en",), "score_min": 0.65},
        "quality": {"threshold": {"percentile": 90.0}},
    },
    # Chen et al. 2023 (arXiv:2311.01149): EvalWeb's preprocess.py (a text of 200 characters goes, too).
    "chinese": {
        "stages": ("url", "language", "length", "characters", "bad_words", "character_repetition", "quality"),
        "language": {"keep": ("zh",), "score_min": 0.5},
        "length": {"chars_min": 201, "mean_line_chars_min": 10.0},
        "characters": {
            "digit_fraction_max": None,
            "symbol_fraction_max": None,
            "space_fraction_max": None,
            "upper_fraction_max": None,
            "alpha_fraction_min": None,
            "unspaced_fraction_min": 0.3,
            "traditional_fraction_max": 0.0,
            "corner_quote_fraction_max": 0.0,
            "taiwan_words": TAIWAN_WORDS,
            "taiwan_word_count_max": 0,
        },
        "bad_words": {"match_count_max": None, "distinct_per_line_max": 0.5},
    },
    # Not published: Gopher's and C4's rules for the reference pages of software, where signatures, parameter lists and
    # code make symbols, short lines and repetition normal. Loosened until what goes is mostly tables and
    # generated text.
    "documentation": {
        "language": {"score_min": 0.4},
        "gopher_quality": {"alpha_word_fraction_min": 0.6, "word_count_min": 30},
        "gopher_repetition": {
            "duplicate_line_fraction_max": 0.45,
            "duplicate_line_char_fraction_max": 0.35,
            "duplicate_paragraph_fraction_max": 0.45,
            "duplicate_paragraph_char_fraction_max": 0.35,
            **{f"duplicate_{n}_gram_char_fraction_max": 0.45 - 0.02 * (n - 5) for n in range(5, 11)},
        },
        "c4": {"curly_bracket_line_count_max": None, "line_word_count_min": None, "sentence_count_min": 2},
        "quality": {"threshold": {"percentile": 10.0}},
    },
}


def _fineweb2(duplicate: tuple[float, ...], alpha: float, ended: float, **more: float) -> dict[str, Any]:
    return {
        "gopher_repetition": {
            **{
                f"duplicate_{n}_gram_char_fraction_max": limit for n, limit in zip(range(5, 11), duplicate, strict=True)
            },
            **more,
        },
        "gopher_quality": {"alpha_word_fraction_min": alpha},
        "fineweb": {
            "short_line_fraction_max": None,
            "duplicate_line_char_fraction_max": 0.1,
            "ended_line_fraction_min": ended,
        },
    }


_ZH = _fineweb2(
    (0.198, 0.182, 0.167, 0.154, 0.14, 0.127), 0.735, 0.106,
    top_2_gram_char_fraction_max=0.256, top_3_gram_char_fraction_max=0.201, top_4_gram_char_fraction_max=0.171,
)  # fmt: skip

# Penedo et al. 2025 (FineWeb-2), configs/{cmn_Hani,jpn_Jpan,tha_Thai}.yml, where looser than the English value: 30
# characters are no short line in Chinese, and n-grams of characters repeat more readily than n-grams of words. They
# were made for words of jieba and the like (`curation.words.segmenters`); used for characters, as they are without
# one, they are an approximation. The Japanese ones are of d331bee, the last of the file's three versions (the first,
# c7004ff, has no `language_score`; the second, baedee4, adds it to the same numbers; the third has others).
BY_LANGUAGE: dict[str, dict[str, Any]] = {
    "zh": _ZH,
    "yue": _ZH,
    "wuu": _ZH,
    "ja": _fineweb2(
        (0.243, 0.225, 0.207, 0.19, 0.175, 0.159), 0.759, 0.096, duplicate_line_fraction_max=0.328,
        top_2_gram_char_fraction_max=0.239, top_3_gram_char_fraction_max=0.196, top_4_gram_char_fraction_max=0.172,
    ),
    "th": _fineweb2(
        (0.185, 0.168, 0.152, 0.137, 0.124, 0.111), 0.8, 0.0, duplicate_line_fraction_max=0.349,
        top_2_gram_char_fraction_max=0.221, top_3_gram_char_fraction_max=0.197, top_4_gram_char_fraction_max=0.162,
    ),
}  # fmt: skip


def languages_of_preset(preset: str | None) -> frozenset[str]:
    """Languages whose values come with raypt or with a preset, which need not occur in a run."""
    values = PRESETS.get(preset or "", {})
    sections = [values.get("by_language", {}), values.get("language", {}).get("score_min_by_language", {})]
    sections += [values.get(stage, {}).get("stop_words", {}) for stage in ("gopher_quality", "dclm_quality")]
    return frozenset(BY_LANGUAGE).union(*sections)
