"""A SentencePiece `.model`: checked here, encoded by SentencePiece itself, described as a `tokenizers` pipeline.

The ids are the library's own: its way with tied scores (the leftmost pair), user-defined symbols, the longest rule of
its normaliser and 32-bit sums cannot all be said in a pipeline. The pipeline names the vocabulary and serves programs
that read a tokenizer.json; `probe_differences` says where it disagrees. The file is one protocol-buffer message
(sentencepiece_model.proto); only the fields that decide the ids are read.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece as library
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from raypt.errors import UserError

SPACE = "▁"
_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_UNIGRAM, _BPE = 1, 2


@dataclass(frozen=True)
class VocabularyPiece:
    """An entry of the vocabulary; its place in the list is its id."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """What a `.model` file says."""

    pieces: list[VocabularyPiece]
    kind: int
    byte_fallback: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    rule: str
    """Name of the normalisation rule: identity, nfkc, nmt_nfkc, ..."""
    suffix: bool
    """White space ends a word instead of beginning it."""


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a message: int for varints, bytes for the other kinds."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(data):
        key = varint()
        number, wire = key >> 3, key & 7
        if wire == 0:
            yield number, varint()
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"wire type {wire}")
        size = varint() if wire == 2 else 8 if wire == 1 else 4
        if at + size > len(data):
            raise ValueError("it ends within a field")
        yield number, data[at : at + size]
        at += size


def parse(data: bytes, where: str) -> SentencePieceModel:
    """Read a `.model` file. Raises UserError if it is not one."""
    pieces: list[VocabularyPiece] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    try:
        for number, value in _fields(data):
            if number == 1:
                piece = dict(_fields(value))
                (score,) = struct.unpack("<f", piece.get(2, bytes(4)))
                pieces.append(VocabularyPiece(piece.get(1, b"").decode(), score, piece.get(3, _NORMAL)))
            elif number == 2:
                trainer = dict(_fields(value))
            elif number == 3:
                normalizer = dict(_fields(value))
    except (ValueError, IndexError, TypeError, AttributeError, struct.error) as e:
        raise UserError(f"{where}: not a SentencePiece model: {e}") from None
    if not pieces:
        raise UserError(f"{where}: not a SentencePiece model: it has no pieces")
    return SentencePieceModel(
        pieces=pieces,
        kind=trainer.get(3, _UNIGRAM),
        byte_fallback=bool(trainer.get(35, 0)),
        charsmap=normalizer.get(2, b""),
        add_dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_whitespaces=bool(normalizer.get(4, 1)),
        rule=bytes(normalizer.get(1, b"")).decode(errors="replace"),
        suffix=bool(trainer.get(24, 0)),
    )


class SentencePieceEncoder:
    """SentencePiece's own encoder of a model's bytes, on the calling thread."""

    def __init__(self, model: bytes, where: str) -> None:
        """Raises UserError if the library refuses the model."""
        try:
            self._processor = library.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, OSError) as e:
            raise UserError(f"{where}: SentencePiece {library.__version__} refuses the model: {e}") from None

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The ids of each text."""
        encoded = self._processor.encode(list(texts), out_type=int, num_threads=1)
        return [np.array(ids, np.uint32) for ids in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; control tokens have none."""
        return str(self._processor.decode(list(ids)))


def to_backend(model: SentencePieceModel, where: str) -> tokenizers.Tokenizer:
    """The `tokenizers` pipeline of a model. Raises UserError, naming what it is, for a model that has none."""
    kinds: dict[int, Any] = {_UNIGRAM: _unigram, _BPE: _bpe}
    if model.kind not in kinds:
        raise UserError(f"{where}: a SentencePiece model of kind {model.kind}; unigram and BPE are supported")
    if model.suffix:
        raise UserError(
            f"{where}: a SentencePiece model with treat_whitespace_as_suffix, which no tokenizer.json can say; train "
            "it again without"
        )
    backend = tokenizers.Tokenizer(kinds[model.kind](model))
    cuts: list[Any] = []
    if symbols := [p.text for p in model.pieces if p.kind == _USER]:
        longest_first = sorted(symbols, key=lambda t: (-len(t), t))
        cuts.append(pre_tokenizers.Split(Regex("|".join(map(re.escape, longest_first))), "isolated"))
    if model.kind == _UNIGRAM:
        cuts.append(control_guard([p.text for p in model.pieces if p.kind in (_CONTROL, _UNKNOWN, _BYTE)]))
    if cuts:
        backend.pre_tokenizer = pre_tokenizers.Sequence(cuts) if len(cuts) > 1 else cuts[0]
    steps: list[Any] = []
    if model.charsmap:
        # The pipeline's `Precompiled` looks at one short grapheme at a time; SentencePiece finds the longest rule, such
        # as that of a kana and its voicing mark, which is NFKC's.
        steps = [normalizers.NFKC()] if "nfkc" in model.rule else []
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.remove_extra_whitespaces:
        trimmed = {r"\A +": "", r" {2,}": " ", rf"[ {SPACE}]+\z": ""}
        steps += [normalizers.Replace(Regex(pattern), by) for pattern, by in trimmed.items()]
    if model.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    ending: list[Any] = [decoders.Strip(" ", 1, 0)] if model.add_dummy_prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *ending]
    )
    backend.add_special_tokens([p.text for p in model.pieces if p.kind in (_CONTROL, _UNKNOWN)])
    return backend


def control_guard(names: list[str]) -> Any:
    """A pre-tokenizer that cuts the first character off the name of a control or byte token spelt out in a text.

    A Unigram model of `tokenizers` has such tokens among its pieces and would find them in the text.
    """
    byte_names = [n for n in names if re.fullmatch(r"<0x[0-9A-F]{2}>", n)]
    others = [f"{re.escape(n[0])}(?={re.escape(n[1:])})" for n in names if len(n) > 1 and n not in byte_names]
    pattern = "|".join([*others, *([r"<(?=0x[0-9A-F]{2}>)"] if byte_names else [])])
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def _unknown(model: SentencePieceModel) -> int:
    return next((i for i, p in enumerate(model.pieces) if p.kind == _UNKNOWN), 0)


def _unigram(model: SentencePieceModel) -> models.Unigram:
    best = max((p.score for p in model.pieces if p.kind == _NORMAL), default=0.0)
    never = min((p.score for p in model.pieces), default=0.0) - 1e4

    def score(p: VocabularyPiece) -> float:
        if p.kind == _USER:
            return len(p.text.encode()) * best - 0.1  # the library's bonus, by which it always wins
        return never if p.kind == _UNUSED else p.score

    return models.Unigram([(p.text, score(p)) for p in model.pieces], _unknown(model), model.byte_fallback)


def _bpe(model: SentencePieceModel) -> models.BPE:
    """SentencePiece merges the two neighbours whose concatenation has the highest score, the leftmost of equals.

    Within a text, the merges inside a piece's span are those of the piece alone, so that each piece has one merge that
    completes it. Equal scores (Mistral's runs of spaces) go by falling length: a run then grows from its left end, as
    it does where the leftmost pair goes first.
    """
    vocab = {p.text: i for i, p in enumerate(model.pieces)}
    scores = {p.text: p.score for p in model.pieces if p.kind in (_NORMAL, _UNUSED)}
    merges: list[tuple[float, int, int, tuple[str, str]]] = []
    for i, p in enumerate(model.pieces):
        if p.kind in (_NORMAL, _UNUSED) and len(p.text) > 1:
            last = _last_merge(p.text, scores)
            if last is not None and all(part in vocab for part in last):
                merges.append((-p.score, -len(p.text), i, last))
    merges.sort(key=lambda m: m[:3])
    return models.BPE(
        vocab=vocab,
        merges=[m[3] for m in merges],
        unk_token=model.pieces[_unknown(model)].text,
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
        ignore_merges=any(p.kind == _USER for p in model.pieces),
    )


def _last_merge(text: str, scores: dict[str, float]) -> tuple[str, str] | None:
    """The merge that completes a piece spelt out by itself, None if its text is never one symbol."""
    parts = list(text)
    while len(parts) > 2:
        found = [(-scores[pair], i) for i in range(len(parts) - 1) if (pair := parts[i] + parts[i + 1]) in scores]
        if not found:
            return None
        at = min(found)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


PROBES = (
    *(" " * n + word for n in (1, 2, 3, 7, 15, 16, 17, 18, 33, 64, 79) for word in ("", "a")),
    *("a\u00a0b", "\tx\t", "ﬁ ①½ ﷺ", "ｶﾞｷﾞ ﾊﾟ", "か\u3099は\u309a", "e\u0301 a\u0323\u0302", "\u1112\u1161\u11ab"),
    *("▁a▁ ▁", "  a  b  "),
)
"""Texts that pipelines are known to have got wrong."""


def probe_differences(model: SentencePieceModel, encoder: SentencePieceEncoder, backend: Any) -> list[str]:
    """The probes, and the model's own user-defined symbols among other text, that the pipeline encodes otherwise."""
    symbols = [p.text for p in model.pieces if p.kind == _USER][:50]
    texts = [*PROBES, *symbols, *(f"a {s}{s} b{s}c" for s in symbols)]
    pairs = zip(texts, encoder.encode(texts), backend.encode_batch(texts, add_special_tokens=False), strict=True)
    return [text for text, ids, encoding in pairs if ids.tolist() != encoding.ids]
