"""What a stage sees of a batch, and what it says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from raypt.curation.features import Features
from raypt.curation.scan import Buffers, scan
from raypt.curation.segmenters import Segmenters
from raypt.text.buffers import TextBatch


@dataclass(frozen=True)
class Measured:
    """What a stage says of a batch of D documents; every array has D values."""

    attributes: pa.StructArray | None = None
    """Its metrics: a column named like the stage."""
    text: TextBatch | None = None
    """The new text, if it edits."""
    columns: Mapping[str, pa.Array] = field(default_factory=dict)
    """Columns under names of their own, such as `lang`: one that is there is replaced."""


class View:
    """A batch between two stages: the text as the stages before left it, the features of that text, made once, and the
    columns that the input and the stages before have given (`lang` and `url` among them, null where unknown).

    Views that share `buffers` share the memory of their features: those of a view hold until the next one's are asked
    for.
    """

    def __init__(
        self,
        text: TextBatch,
        columns: Mapping[str, pa.Array],
        buffers: Buffers | None = None,
        segmenters: Segmenters | None = None,
    ) -> None:
        self.text, self.columns = text, columns
        self._buffers, self._segmenters = buffers, segmenters
        self._features: Features | None = None
        self._words: Features | None = None

    def __len__(self) -> int:
        return len(self.text)

    @property
    def languages(self) -> pa.Array:
        """string[D], null where unknown."""
        return self.columns["lang"]

    @property
    def urls(self) -> pa.Array:
        """string[D], null where unknown."""
        return self.columns["url"]

    @property
    def features(self) -> Features:
        """Tokens, lines and counts of the text, scanned at the first use."""
        if self._features is None:
            self._features = scan(self.text, self._buffers)
        return self._features

    @property
    def words(self) -> Features:
        """The same with the words of a segmenter for tokens, in documents of a language that has one configured; these
        have no tokens of lines."""
        if self._segmenters is None:
            return self.features
        if self._words is None:
            self._words = self._segmenters.words(self.features, self.languages)
        return self._words

    def rows(self, index: np.ndarray) -> "View":
        """Some of the documents, with memory of their own for their features."""
        taken = pa.array(index)
        text = TextBatch.from_arrow(self.text.to_arrow().cast(pa.large_string()).take(taken))
        columns = {name: column.take(taken) for name, column in self.columns.items()}
        return View(text, columns, segmenters=self._segmenters)

    def after(self, text: TextBatch | None, columns: Mapping[str, pa.Array]) -> "View":
        """The same documents with other text (None: the same, and its features) and more columns."""
        view = View(self.text if text is None else text, {**self.columns, **columns}, self._buffers, self._segmenters)
        if text is None:
            view._features = self._features
            view._words = None if "lang" in columns else self._words
        return view
