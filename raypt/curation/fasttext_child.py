"""`python -m raypt.curation.fasttext_child FILE`: load a fastText model and use it once, where a crash hurts nobody."""

import sys

import fasttext

PROBES = ("the quick brown fox", "这是一个中文句子", "x" * 10_000, "a b c d e f " * 1000, "\x00\t <>&;", "")


def main(path: str) -> None:
    predict = fasttext.load_model(path).f.predict
    for text in PROBES:
        predict(text + "\n", -1, 0.0, "strict")


if __name__ == "__main__":
    main(sys.argv[1])
