"""A SentencePiece `.model` as a `tokenizers` pipeline, read without the SentencePiece library.

The file is one protocol-buffer message (sentencepiece_model.proto); only the fields that decide the ids are read.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
    )


def to_backend(model: SentencePieceModel, where: str) -> tokenizers.Tokenizer:
    """The `tokenizers` pipeline with the same ids. Raises UserError for word and character models."""
    kinds: dict[int, Any] = {_UNIGRAM: _unigram, _BPE: _bpe}
    if model.kind not in kinds:
        raise UserError(f"{where}: a SentencePiece model of kind {model.kind}; unigram and BPE are supported")
    backend = tokenizers.Tokenizer(kinds[model.kind](model))
    if model.kind == _UNIGRAM:
        backend.pre_tokenizer = control_guard([p.text for p in model.pieces if p.kind in (_CONTROL, _UNKNOWN, _BYTE)])
    steps: list[Any] = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    if model.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if model.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    ending: list[Any] = [decoders.Strip(" ", 1, 0)] if model.add_dummy_prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *ending]
    )
    backend.add_special_tokens([p.text for p in model.pieces if p.kind in (_CONTROL, _UNKNOWN)])
    backend.add_tokens([tokenizers.AddedToken(p.text, normalized=False) for p in model.pieces if p.kind == _USER])
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
    return models.Unigram([(p.text, p.score) for p in model.pieces], _unknown(model), model.byte_fallback)


def _bpe(model: SentencePieceModel) -> models.BPE:
    """SentencePiece merges the two neighbours whose concatenation has the highest score: as a list of merges, every way
    to put a piece together from two others, by falling score (the order of ids).
    """
    vocab = {p.text: i for i, p in enumerate(model.pieces)}
    normal = {p.text for p in model.pieces if p.kind == _NORMAL}
    merges: list[tuple[float, int, int, tuple[str, str]]] = []
    for p in model.pieces:
        if p.kind != _NORMAL:
            continue
        for cut in range(1, len(p.text)):
            left, right = p.text[:cut], p.text[cut:]
            if left in normal and right in normal:
                merges.append((-p.score, vocab[left], vocab[right], (left, right)))
    merges.sort(key=lambda m: m[:3])
    return models.BPE(
        vocab=vocab,
        merges=[m[3] for m in merges],
        unk_token=model.pieces[_unknown(model)].text,
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
    )
