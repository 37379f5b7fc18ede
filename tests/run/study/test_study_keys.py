"""The keys of a study are frozen, as those of a run are (`tests.run.test_config_keys`): renaming or dropping one breaks
users' files. Those under `base.` are a run's, and frozen there.

After a decision: `python -m tests.run.study.test_study_keys > tests/run/study/study_keys.txt`, and say in the commit
why.
"""

from pathlib import Path

from raypt.config_help import documented
from raypt.config_io import all_keys
from raypt.run.study.config import RandomMixtures, StudyConfig, Variant

FROZEN = Path(__file__).with_name("study_keys.txt")
ITEMS = {"variants[]": Variant}
"""Lists of models, whose keys `all_keys` does not go into."""


def keys() -> list[str]:
    plain = [key for key, _ in all_keys(StudyConfig) if not key.startswith("base.")]
    return sorted({*plain, *(f"{name}.{key}" for name, model in ITEMS.items() for key, _ in all_keys(model))})


def test_no_key_is_renamed_or_dropped_and_a_new_one_is_listed() -> None:
    frozen = FROZEN.read_text().splitlines()
    gone, new = sorted(set(frozen) - set(keys())), sorted(set(keys()) - set(frozen))
    assert not gone, f"users' files that say {', '.join(gone)} would be refused"
    assert not new, f"not in {FROZEN.name}: {', '.join(new)}; see the top of this file"
    assert frozen == keys()


def test_every_key_of_a_part_says_what_it_means() -> None:
    for model in (Variant, RandomMixtures):
        assert not [key for key, doc in documented(model) if not doc]


if __name__ == "__main__":
    print("\n".join(keys()))
