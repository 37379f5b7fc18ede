"""Perplexity under a model that KenLM loads from its binary file."""

from typing import Any

import numpy as np

from raypt.curation.outside_file import local_copy, sha256_of, try_in_a_child
from raypt.curation.perplexity import kenlm_file
from raypt.curation.perplexity.model import Scores
from raypt.curation.perplexity.sentences import Sentences
from raypt.errors import UserError


def loaded(path: str) -> Any:
    """KenLM's own object; the file is mapped, and shared between the processes of a machine."""
    import kenlm

    config = kenlm.Config()
    config.load_method = kenlm.LoadMethod.POPULATE_OR_LAZY
    return kenlm.Model(path, config)


class KenlmModel:
    """A model with the interface of `NGramModel`."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    def load(cls, uri: str, key: str) -> "KenlmModel":
        """Of a binary file, after `kenlm_file.check` and a trial in a child process. `key` named it.

        Raises:
            UserError: it is none, KenLM cannot use it, or the package is not there.
            FileNotFoundError: it is not there.
        """
        try:
            import kenlm  # noqa: F401
        except ImportError:
            raise UserError(f"{key}: KenLM's binary files need its package: pip install 'raypt[kenlm]'") from None
        with local_copy(uri) as path:
            try:
                kenlm_file.check(path)
            except kenlm_file.Malformed as e:
                raise UserError(f"{key}: {uri} is no binary file of KenLM: {e}; download or build it again") from None
            try_in_a_child(path, sha256_of(path), "raypt.curation.perplexity.kenlm_child", "KenLM", key, uri)
            return cls(loaded(path))

    def score(self, text: Sentences, documents: int) -> Scores:
        """Log probabilities of the sentences, summed over each of the `documents`. Empty sentences do not count."""
        count = len(text.document)
        log10, counts = np.zeros(count), np.zeros((count, 2), np.int64)
        data, offsets = text.data.tobytes(), text.offsets.tolist()
        ask = self._model.full_scores
        for i in np.flatnonzero(np.diff(text.offsets)).tolist():
            total, tokens, unknown = 0.0, 0, 0
            for p, _, is_unknown in ask(data[offsets[i] : offsets[i + 1]]):
                total += p
                tokens += 1
                unknown += is_unknown
            log10[i], counts[i, 0], counts[i, 1] = total, tokens, unknown
        return Scores.of(text, documents, log10, counts)
