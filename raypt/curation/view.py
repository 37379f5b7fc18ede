"""What a stage sees of a batch: the text as the stages before it left it, and the features of that text, made once."""

from dataclasses import dataclass

import pyarrow as pa

from raypt.curation.features import Features
from raypt.curation.scan import Buffers, scan
from raypt.text.buffers import TextBatch


@dataclass(frozen=True)
class Measured:
    """What a stage says of a batch: its attribute column, and the new text if it edits."""

    attributes: pa.StructArray
    text: TextBatch | None = None


class View:
    """A batch between two stages. `languages` and `urls` are per document, null where unknown.

    Views that share `buffers` share the memory of their features: those of a view hold until the next one's are asked
    for.
    """

    def __init__(self, text: TextBatch, languages: pa.Array, urls: pa.Array, buffers: Buffers | None = None) -> None:
        self.text, self.languages, self.urls = text, languages, urls
        self._buffers = buffers
        self._features: Features | None = None

    def __len__(self) -> int:
        return len(self.text)

    @property
    def features(self) -> Features:
        """Tokens, lines and counts of the text, scanned at the first use."""
        if self._features is None:
            self._features = scan(self.text, self._buffers)
        return self._features

    def edited(self, text: TextBatch) -> "View":
        """The same documents with other text."""
        return View(text, self.languages, self.urls, self._buffers)
