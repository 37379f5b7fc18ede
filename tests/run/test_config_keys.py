"""The keys of the configuration are frozen: renaming or dropping one breaks users' files, so it is a decision.

After a decision: `python -m tests.run.test_config_keys > tests/run/config_keys.txt`, and say in the commit why.
"""

from pathlib import Path

from raypt.config_help import documented
from raypt.config_io import all_keys
from raypt.run.config import RunConfig

FROZEN = Path(__file__).with_name("config_keys.txt")


def keys() -> list[str]:
    return sorted(key for key, _ in all_keys(RunConfig))


def test_no_key_is_renamed_or_dropped_and_a_new_one_is_listed() -> None:
    frozen = FROZEN.read_text().splitlines()
    gone, new = sorted(set(frozen) - set(keys())), sorted(set(keys()) - set(frozen))
    assert not gone, f"users' files that say {', '.join(gone)} would be refused"
    assert not new, f"not in {FROZEN.name}: {', '.join(new)}; see the top of this file"
    assert frozen == keys()


def test_every_key_says_what_it_means() -> None:
    assert not [key for key, doc in documented(RunConfig) if not doc]


if __name__ == "__main__":
    print("\n".join(keys()))
