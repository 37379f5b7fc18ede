"""What deduplicating many documents needs: CPU, memory and files, worked out from measured costs a row."""

from collections.abc import Sequence
from dataclasses import dataclass

from raypt.dedup.config import DedupConfig
from raypt.dedup.graph import EDGE_BYTES
from raypt.dedup.passes import choose_partitions
from raypt.dedup.pipeline import DedupResult

ROUNDS = 6
"""Rounds of star passes reckoned with: near duplicates come in stars and short chains, which take 3 to 6."""
BY_DOCUMENT = ("inspect", "sign", "settle", "finish")
"""Passes whose work grows with the documents; "connect" grows with band rows, the others with cluster members."""


@dataclass(frozen=True)
class Costs:
    """Costs a unit of one measured run."""

    document_bytes: float
    """UTF-8 bytes of a document."""
    members_share: float
    """Share of the documents that are in a cluster."""
    text_cpu_s: float
    """CPU seconds a byte of text, in the pass that reads text."""
    document_cpu_s: float
    """CPU seconds a document in the other passes over documents."""
    row_cpu_s: float
    """CPU seconds a band row, sorted and tied in a partition that fills the memory of a task."""
    star_cpu_s: float
    """CPU seconds an edge a round of star passes."""
    member_cpu_s: float
    """CPU seconds a cluster member."""
    document_file_bytes: float
    """Bytes of intermediate files a document."""
    member_file_bytes: float
    """Bytes of intermediate files a cluster member."""

    @classmethod
    def measured(
        cls,
        result: DedupResult,
        passes: dict[str, float],
        files: dict[str, int],
        nbytes: int,
        *,
        row_cpu_s: float,
        star_cpu_s: float,
    ) -> "Costs":
        """From the CPU seconds by pass and the bytes by kind of file of a run over `nbytes` of text."""
        documents = max(result.documents, 1)
        members = max(result.report["documents_in_clusters"], 1)
        other = sum(s for name, s in passes.items() if name not in (*BY_DOCUMENT, "connect"))
        by_document = sum(size for kind, size in files.items() if kind in ("keys", "attributes"))
        return cls(
            document_bytes=nbytes / documents,
            members_share=members / documents,
            text_cpu_s=passes["sign"] / nbytes,
            document_cpu_s=sum(passes[name] for name in BY_DOCUMENT if name != "sign") / documents,
            row_cpu_s=row_cpu_s,
            star_cpu_s=star_cpu_s,
            member_cpu_s=other / members,
            document_file_bytes=by_document / documents,
            member_file_bytes=(sum(files.values()) - by_document) / members,
        )


@dataclass(frozen=True)
class Needs:
    """What a number of documents needs."""

    documents: int
    text_bytes: float
    core_hours: float
    hours: float
    file_bytes: float
    partitions: int
    memory_bytes: int
    """Of a task; the components of the whole take EDGE_BYTES a member when they are merged in one task."""
    merge_bytes: float
    rounds: int
    """Rounds of star passes reckoned with, if the components do not fit a task."""


def needs(costs: Costs, config: DedupConfig, documents: int, cores: int) -> Needs:
    """The needs of `documents` documents on a cluster of `cores`, cores fully busy."""
    bands = config.fuzzy.layout[0] if config.fuzzy.enabled else 1
    members = documents * costs.members_share
    cpu = documents * (costs.document_bytes * costs.text_cpu_s + costs.document_cpu_s + bands * costs.row_cpu_s)
    cpu += members * costs.member_cpu_s
    merge_bytes = members * EDGE_BYTES
    rounds = ROUNDS if merge_bytes > config.memory_mb << 20 else 0
    cpu += rounds * members * costs.star_cpu_s
    return Needs(
        documents=documents,
        text_bytes=documents * costs.document_bytes,
        core_hours=cpu / 3600,
        hours=cpu / 3600 / cores,
        file_bytes=documents * costs.document_file_bytes + members * costs.member_file_bytes,
        partitions=choose_partitions(config, documents),
        memory_bytes=config.memory_mb << 20,
        merge_bytes=merge_bytes,
        rounds=rounds,
    )


def table(rows: Sequence[Needs]) -> str:
    """A text table, a line a number of documents."""
    lines = [
        f"{'documents':>10} {'text TB':>8} {'core hours':>11} {'hours':>7} {'files TB':>9} {'partitions':>11} "
        f"{'GB a task':>10} {'GB of components':>17} {'star rounds':>12}"
    ]
    lines += [
        f"{r.documents:10.0e} {r.text_bytes / 1e12:8.1f} {r.core_hours:11.1f} {r.hours:7.2f} "
        f"{r.file_bytes / 1e12:9.2f} "
        f"{r.partitions:11,} {r.memory_bytes / 1e9:10.1f} {r.merge_bytes / 1e9:17.1f} {r.rounds:12d}"
        for r in rows
    ]
    return "\n".join(lines)
