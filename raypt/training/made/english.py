"""English minimal pairs: agreement, order, negation, after the phenomena of BLiMP (Warstadt et al. 2020)."""

import random
from typing import Any

from raypt.training.made.frames import draw

NOUNS = (
    "boy", "girl", "teacher", "doctor", "student", "artist", "farmer", "driver", "king", "friend", "author", "reader",
    "neighbour", "engineer", "method", "function", "class", "library", "program", "user", "module", "system",
)  # fmt: skip
THINGS = (
    "book", "file", "letter", "name", "list", "table", "value", "word", "picture", "door", "number", "result", "key",
    "question", "paper", "message",
)  # fmt: skip
ADJECTIVES = ("old", "new", "small", "large", "simple", "good", "common", "different")
VERBS = (
    ("read", "reads"), ("change", "changes"), ("write", "writes"), ("use", "uses"), ("find", "finds"),
    ("take", "takes"), ("give", "gives"), ("need", "needs"), ("make", "makes"), ("keep", "keeps"), ("see", "sees"),
    ("want", "wants"), ("remove", "removes"), ("return", "returns"), ("contain", "contains"), ("show", "shows"),
)  # fmt: skip
PLACES = ("near", "behind", "with", "before", "after")


def plural(noun: str) -> str:
    """Of the nouns here."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "sh", "ch")) else "s")


def _subject_verb(r: random.Random) -> tuple[str, str]:
    noun, thing, (many, one) = r.choice(NOUNS), r.choice(THINGS), r.choice(VERBS)
    singular = r.random() < 0.5
    subject = noun if singular else plural(noun)
    verbs = (one, many) if singular else (many, one)
    return f"The {subject} {verbs[0]} the {thing}.", f"The {subject} {verbs[1]} the {thing}."


def _across(r: random.Random) -> tuple[str, str]:
    """A noun of the other number stands between subject and verb."""
    noun, other = r.sample(NOUNS, 2)
    singular, place = r.random() < 0.5, r.choice(PLACES)
    subject, between = (noun, plural(other)) if singular else (plural(noun), other)
    verbs = ("is", "are") if singular else ("are", "is")
    end = r.choice(ADJECTIVES)
    return tuple(f"The {subject} {place} the {between} {v} {end}." for v in verbs)  # type: ignore[return-value]


def _determiner(r: random.Random) -> tuple[str, str]:
    noun, thing, (many, _) = r.choice(NOUNS), r.choice(THINGS), r.choice(VERBS)
    near = r.random() < 0.5
    singular = r.random() < 0.5
    right = ("this" if near else "that") if singular else ("these" if near else "those")
    wrong = ("these" if near else "those") if singular else ("this" if near else "that")
    what = thing if singular else plural(thing)
    return f"The {plural(noun)} {many} {right} {what}.", f"The {plural(noun)} {many} {wrong} {what}."


def _adjective_order(r: random.Random) -> tuple[str, str]:
    noun, thing, a, (_, one) = r.choice(NOUNS), r.choice(THINGS), r.choice(ADJECTIVES), r.choice(VERBS)
    return f"The {noun} {one} the {a} {thing}.", f"The {noun} {one} the {thing} {a}."


def _article_order(r: random.Random) -> tuple[str, str]:
    noun, thing, (_, one) = r.choice(NOUNS), r.choice(THINGS), r.choice(VERBS)
    return f"The {noun} {one} the {thing}.", f"The {noun} the {one} {thing}."


def _modal_order(r: random.Random) -> tuple[str, str]:
    noun, thing, (many, _) = r.choice(NOUNS), r.choice(THINGS), r.choice(VERBS)
    modal = r.choice(("can", "will", "must", "should", "may"))
    return f"The {noun} {modal} {many} the {thing}.", f"The {noun} {many} {modal} the {thing}."


def _negated_form(r: random.Random) -> tuple[str, str]:
    """After `does not` comes the bare form."""
    noun, thing, (many, one) = r.choice(NOUNS), r.choice(THINGS), r.choice(VERBS)
    return f"The {noun} does not {many} the {thing}.", f"The {noun} does not {one} the {thing}."


def _place_of_not(r: random.Random) -> tuple[str, str]:
    noun, thing, (many, _) = r.choice(NOUNS), r.choice(THINGS), r.choice(VERBS)
    modal = r.choice(("can", "will", "must", "should", "may", "does", "did"))
    return f"The {noun} {modal} not {many} the {thing}.", f"The {noun} not {modal} {many} the {thing}."


def _polarity(r: random.Random) -> tuple[str, str]:
    """`ever` wants a negation before it."""
    noun, thing, (_, one) = r.choice(NOUNS), r.choice(THINGS), r.choice(VERBS)
    return f"No {noun} ever {one} the {thing}.", f"Some {noun} ever {one} the {thing}."


FRAMES = {
    "en agreement: subject and verb": _subject_verb,
    "en agreement: across a noun": _across,
    "en agreement: determiner and noun": _determiner,
    "en order: adjective": _adjective_order,
    "en order: article": _article_order,
    "en order: modal": _modal_order,
    "en negation: form of the verb": _negated_form,
    "en negation: place of not": _place_of_not,
    "en negation: ever": _polarity,
}


def pairs(count: int, seed: int) -> list[dict[str, Any]]:
    """`good`, `bad`, `phenomenon`."""
    return draw(FRAMES, count, seed)
