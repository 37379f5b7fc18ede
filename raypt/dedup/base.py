"""What a pass of deduplication is: an entry of the list in `raypt.dedup.passes`."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from raypt.dedup.config import DedupConfig
from raypt.dedup.plan import Job


class Pass(ABC):
    """One kind of decision across documents.

    It sees the documents that no pass before it in the list removed, and leaves its verdicts for every group of shards
    (`raypt.dedup.verdicts`): documents removed and, if it cuts spans, what is cut from those that stay.
    """

    stage: ClassVar[str]
    """Its name in verdicts and files."""
    sections: ClassVar[tuple[str, ...]]
    """Its sections of the configuration, under `dedup`."""
    reasons: ClassVar[tuple[str, ...]]
    """Why a document is removed or cut by it."""
    edits: ClassVar[Literal["document", "spans"]] = "document"
    """Whether it removes whole documents only, or cuts spans out of them."""
    needs_text: ClassVar[bool] = True
    """Whether it reads documents; what does not can be computed anew from the hashes in an index."""

    def enabled(self, config: DedupConfig) -> bool:
        return any(getattr(config, name).enabled for name in self.sections)

    def identity(self, config: DedupConfig) -> dict[str, Any]:
        """What decides its result, by section; JSON values."""
        sections = {name: getattr(config, name) for name in self.sections}
        return {name: section.model_dump(mode="json") for name, section in sections.items() if section.enabled}

    def cuts(self, config: DedupConfig) -> bool:
        """Whether it leaves cuts under this configuration."""
        return self.edits == "spans"

    @abstractmethod
    def reduce_bytes(self, config: DedupConfig, rows: int, text_bytes: int) -> int:
        """Peak memory of all its reduce tasks together, over so many documents with so much text."""

    @abstractmethod
    def run(self, job: Job) -> dict[str, Any]:
        """Its map and reduce tasks; afterwards every group has its verdicts. Returns its part of the report."""
