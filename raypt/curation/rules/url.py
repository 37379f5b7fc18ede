"""URL block list as in RefinedWeb (Penedo et al. 2023, arXiv:2306.01116, appendix G.1): domains and words."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.curation.phrases import count_matches, read_list
from raypt.curation.rules.base import RuleSettings, struct
from raypt.curation.view import Measured, View

# RE2 (linear time): scheme and user before the host, port after it.
_HOST = r"^(?:[A-Za-z][A-Za-z0-9+.\-]*:)?(?://)?(?:[^/?#@]*@)?(?P<host>[^/?#:]*)"


class UrlFilter(RuleSettings):
    """URL block list. Documents without a URL pass. In conditions and bounds its metrics are
    `url_metrics.<name>`, as `url` is the address."""

    stage: ClassVar[str] = "url"
    metrics: ClassVar[tuple[str, ...]] = ("blocked_domain", "strict_words", "hard_words", "soft_words")

    domain_files: tuple[str, ...] = ()
    """Files or URIs with blocked domains, one a line; a domain blocks its subdomains."""
    domains: tuple[str, ...] = ()
    """Blocked domains."""
    strict_word_files: tuple[str, ...] = ()
    """Files with substrings that block a URL wherever they occur in it."""
    hard_word_files: tuple[str, ...] = ()
    """Files with words that block a URL in which one of them occurs as a word."""
    soft_word_files: tuple[str, ...] = ()
    """Files with words of which `soft_words_max` may occur in a URL."""
    blocked_domain_max: int | None = 0
    """0: documents of blocked domains go."""
    strict_words_max: int | None = 0
    """Most strict substrings in a URL (RefinedWeb: none)."""
    hard_words_max: int | None = 0
    """Most hard words in a URL (RefinedWeb: none)."""
    soft_words_max: int | None = 1
    """Most soft words in a URL (RefinedWeb: fewer than two)."""

    def named_files(self) -> Mapping[str, str]:
        """The lists."""
        keys = ("domain_files", "strict_word_files", "hard_word_files", "soft_word_files")
        return {f"{key}[{i}]": uri for key in keys for i, uri in enumerate(getattr(self, key))}

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document; null without a URL."""
        urls = view.urls
        hosts = pc.struct_field(pc.extract_regex(pc.fill_null(urls, ""), _HOST), "host").dictionary_encode()
        blocked = _blocked(self.domain_files, self.domains)
        per_host = np.array([is_blocked(host, blocked) for host in hosts.dictionary.to_pylist()] or [False])
        known = urls.is_valid().to_numpy(zero_copy_only=False)
        columns = {
            "blocked_domain": per_host[hosts.indices.to_numpy()] if len(urls) else np.zeros(0, bool),
            "strict_words": _words(urls, self.strict_word_files, "strict_word_files", False),
            "hard_words": _words(urls, self.hard_word_files, "hard_word_files", True),
            "soft_words": _words(urls, self.soft_word_files, "soft_word_files", True),
        }
        return Measured(struct({name: np.where(known, values, np.nan) for name, values in columns.items()}))


@functools.lru_cache(maxsize=4)
def _blocked(files: tuple[str, ...], domains: tuple[str, ...]) -> frozenset[str]:
    listed = (d for file in files for d in read_list(file, "curation.url.domain_files"))
    return frozenset(d.lower().strip(".").removeprefix("www.") for d in (*listed, *domains))


def is_blocked(host: str, blocked: frozenset[str]) -> bool:
    """Whether the host or a domain above it is in the list."""
    labels = host.lower().strip(".").split(".")
    return any(".".join(labels[i:]) in blocked for i in range(len(labels)))


def _words(urls: pa.Array, files: tuple[str, ...], key: str, whole: bool) -> np.ndarray:
    words = [w for file in files for w in read_list(file, f"curation.url.{key}")]
    return count_matches(urls, words, whole_words=whole)[:, 1]
