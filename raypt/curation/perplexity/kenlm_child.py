"""`python -m raypt.curation.perplexity.kenlm_child FILE`: load KenLM's binary file and use it once, where a crash hurts
nobody."""

import sys

from raypt.curation.perplexity.kenlm_model import loaded

PROBES = ("the quick brown fox", "这 是 一 个 中文 句子", "x" * 10_000, "a b c d e f " * 1000, "<s> </s> <unk>", "")


def main(path: str) -> None:
    model = loaded(path)
    for text in PROBES:
        total = sum(p for p, _, _ in model.full_scores(text))
        assert total <= 0, f"{text[:20]!r} has the probability 10^{total}"


if __name__ == "__main__":
    main(sys.argv[1])
