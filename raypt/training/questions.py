"""Questions with answers to choose from, as JSON Lines: what a model that is still training is asked.

A line is a question: `prompt`, `choices` (two or more), `answer` (index of the right one), or a minimal pair: `good`
and `bad`, or BLiMP's `sentence_good` and `sentence_bad` (Warstadt et al. 2020). `phenomenon`, or BLiMP's `UID`, names a
group that is counted apart.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec

from raypt.errors import UserError
from raypt.outside import redact, shown
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training import made

PAIRS = (("good", "bad"), ("sentence_good", "sentence_bad"))
GROUPS = ("phenomenon", "UID")


@dataclass(frozen=True)
class Question:
    """`choices[answer]` is what should be the likeliest continuation of `prompt`."""

    prompt: str
    choices: tuple[str, ...]
    answer: int
    group: str | None = None


@dataclass(frozen=True)
class Choice:
    """One continuation as the model sees it: `ids`, of which the last `scored` are its own."""

    ids: tuple[int, ...]
    scored: int
    nbytes: int
    """UTF-8, at least 1."""


def read_questions(uri: str, most: int | None, key: str) -> list[Question]:
    """The questions of a file, or of `builtin:NAME` (`raypt.training.made`); `most` of them, spread evenly over it.
    `key` names it in messages.

    Raises:
        UserError: it is not there, has no question, or a line is none: file and line.
    """
    try:
        with _lines(uri, key) as f:
            found = [question(line, f"{key}: {redact(uri)} line {n + 1}") for n, line in enumerate(f) if line.strip()]
    except FileNotFoundError:
        raise UserError(f"{key}: there is no file {redact(uri)}") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{key}: {redact(uri)} is not UTF-8: {e.reason} at byte {e.start}") from None
    if not found:
        raise UserError(f"{key}: {redact(uri)} has no question")
    if most is None or len(found) <= most:
        return found
    return [found[i * len(found) // most] for i in range(most)]


def _lines(uri: str, key: str) -> contextlib.AbstractContextManager[Iterable[str]]:
    if not uri.startswith(made.SCHEME):
        opened: contextlib.AbstractContextManager[Iterable[str]] = fsspec.open(uri, "rt", encoding="utf-8")
        return opened
    try:
        return contextlib.nullcontext(list(made.lines(uri.removeprefix(made.SCHEME))))
    except UserError as e:
        raise UserError(f"{key}: {e}") from None


def question(line: str, where: str) -> Question:
    """The question of a line. Raises UserError that begins with `where`."""
    try:
        row = json.loads(line)
    except ValueError as e:
        raise UserError(f"{where}: not JSON: {e}") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: not an object")
    group = next((str(row[name]) for name in GROUPS if row.get(name) is not None), None)
    for good, bad in PAIRS:
        if good in row and bad in row:
            texts = (row[good], row[bad])
            if not all(isinstance(text, str) and text for text in texts):
                raise UserError(f"{where}: {good} and {bad} must be texts")
            return Question("", texts, 0, group)
    return _choices(row, group, where)


def _choices(row: dict[str, Any], group: str | None, where: str) -> Question:
    prompt, choices, answer = (row.get(name) for name in ("prompt", "choices", "answer"))
    if choices is None:
        raise UserError(
            f"{where}: neither `prompt`, `choices` and `answer` nor `good` and `bad`; it has {shown(', '.join(row))}"
        )
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where}: prompt must be a text")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c for c in choices):
        raise UserError(f"{where}: choices must be two texts or more")
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        raise UserError(
            f"{where}: answer must be an index of choices, 0 to {len(choices) - 1}, not {shown(str(answer))}"
        )
    return Question(prompt, tuple(choices), answer, group)


def split_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of the context and of the continuation, which together are those of the whole text.

    Spaces that end the context count as the continuation's, as in lm-evaluation-harness; so does a token that holds
    text of both. Text that adds no token of its own to the context's is scored by the last one: a continuation without
    tokens would be certain, and win over every other.
    """
    stripped = context.rstrip()
    continuation, context = context[len(stripped) :] + continuation, stripped
    whole, before = tokenizer.encode(context + continuation), tokenizer.encode(context)
    cut = next((i for i, (a, b) in enumerate(zip(whole, before, strict=False)) if a != b), min(len(whole), len(before)))
    if continuation:
        cut = min(cut, max(0, len(whole) - 1))
    return whole[:cut], whole[cut:]


def encode(questions: Sequence[Question], tokenizer: Tokenizer, longest: int) -> Iterator[list[Choice]]:
    """The choices of each question, of at most `longest` inputs: what does not fit is cut from the left. A text begins
    with BOS where the tokenizer adds it; else its first token is not scored, since nothing comes before it.
    """
    start = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    for q in questions:
        row = []
        for choice in q.choices:
            context, own = split_pair(tokenizer, q.prompt, choice)
            ids = [*start, *context, *own][-(longest + 1) :]
            row.append(Choice(tuple(ids), min(len(own), len(ids) - 1), len(choice.encode()) or 1))
        yield row
