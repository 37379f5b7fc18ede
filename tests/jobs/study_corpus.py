"""Text for studies: prose of a small grammar, and junk that a rule of curation removes."""

import json
import random
from pathlib import Path
from typing import Any

SUBJECTS = ("the committee", "an old engineer", "my neighbour", "the river", "this method", "the second reader")
VERBS = ("describes", "follows", "remembers", "changes", "supports", "explains")
OBJECTS = ("the bridge over the water", "a list of names", "every result", "the question of the day", "its own rules")
ENDINGS = ("in the morning", "with great care", "as was agreed", "for the last time", "and nobody objects")


def sentence(rng: random.Random) -> str:
    words = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)} {rng.choice(ENDINGS)}."
    return words[0].upper() + words[1:]


def prose(rng: random.Random) -> str:
    return " ".join(sentence(rng) for _ in range(rng.randint(12, 30)))


def junk(rng: random.Random) -> str:
    """Lists of keys and numbers: what Gopher's rules of words and stop words remove."""
    return "\n".join(f"#{rng.getrandbits(64):x} {rng.getrandbits(40)} | {rng.random():.9f}" for _ in range(30))


def write(path: Path, texts: list[str]) -> None:
    """JSON Lines."""
    rows = [{"id": f"{path.stem}-{i}", "text": text} for i, text in enumerate(texts)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_corpus(directory: Path) -> None:
    """Two sources: prose, and as many documents of junk; two shards each."""
    rng = random.Random(7)
    for name, make, count in (("prose", prose, 500), ("junk", junk, 500)):
        for part in range(2):
            write(directory / name / f"{part}.jsonl", [make(rng) for _ in range(count // 2)])


STUDY: dict[str, Any] = {
    "study": {"dir": "study", "question": "Does the junk hurt?", "reference": "clean"},
    "base": {
        "ray": {"dashboard": False},
        "corpus": {"sources": [{"name": n, "paths": f"{n}/*.jsonl"} for n in ("prose", "junk")]},
        "curation": {"stages": ["gopher_quality"], "language": {"assume": "en"}},
        # Sentences of a small grammar resemble one another: near duplicates are not what is asked here.
        "dedup": {"fuzzy": {"enabled": False}},
        "tokens": {"tokenizer": {"vocab_size": 512}, "packing": {"sequence_length": 64}},
        "model": {"hidden_size": 32, "intermediate_size": 64, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1},
        "train": {
            "steps": 60,
            "global_batch_tokens": 1024,
            "micro_batch_size": 16,
            "checkpoint": {"every_steps": 20},
            "evaluation": {"every_steps": 30, "max_samples": 16},
        },
    },
    "heldout": {"fraction": 0.2, "max_documents": 60},
    "variants": [
        {"name": "clean"},
        {"name": "clean again"},
        {"name": "without rules", "set": {"curation.stages": ["length"]}},
        {"name": "without duplicates' rule", "set": {"dedup.exact.enabled": False}},
    ],
}
"""Four variants: one is the same as the reference, and one differs in a rule that changes nothing here."""
