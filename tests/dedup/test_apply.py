import pyarrow as pa

from raypt.dedup import apply_shard
from raypt.dedup.apply import stands_for
from raypt.dedup.verdicts import EDITS
from tests.dedup.reference import documents

NONE_REMOVED = pa.table({"doc_key": pa.array([], pa.int64()), "reason": pa.array([], pa.string())})


def test_removed_documents_go_and_their_reasons_align() -> None:
    docs = documents(["a", "b", "c", "d"])
    removed = pa.table({"doc_key": [1, 3], "reason": ["dedup.exact", "dedup.fuzzy"]})
    kept, reasons = apply_shard(docs, removed)
    assert kept["text"].to_pylist() == ["a", "c"]
    assert reasons.to_pylist() == [None, "dedup.exact", None, "dedup.fuzzy"]


def test_documents_that_no_cluster_has_stand_for_themselves() -> None:
    docs = documents(["a", "b", "c"])
    sizes = pa.table({"doc_key": [0, 2], "cluster_size": [4, 2]})
    assert stands_for(docs, sizes).to_pylist() == [{"cluster_size": n} for n in (4, 1, 2)]
    assert stands_for(docs.slice(1, 1), sizes).to_pylist() == stands_for(docs.slice(0, 1), None).to_pylist()
    assert len(stands_for(docs.slice(0, 0), sizes)) == 0


def test_without_removals_every_document_stays() -> None:
    docs = documents(["a", "b"])
    kept, reasons = apply_shard(docs, NONE_REMOVED)
    assert kept.equals(docs)
    assert reasons.null_count == 2


def test_edits_cut_bytes_from_their_documents_only() -> None:
    docs = documents(["one two", "中文。重复。完", "three"])
    edits = pa.table({"doc_key": [1, 2], "starts": [[9], [0, 4]], "stops": [[18], [1, 5]]}).cast(EDITS)
    kept, _ = apply_shard(docs, NONE_REMOVED, edits)
    assert kept["text"].to_pylist() == ["one two", "中文。完", "hre"]
    assert kept.schema.equals(docs.schema)


def test_edits_of_documents_outside_the_batch_are_left_alone() -> None:
    edits = pa.table({"doc_key": [0, 7], "starts": [[0], [0]], "stops": [[1], [1]]}).cast(EDITS)
    kept, _ = apply_shard(documents(["abc"]), NONE_REMOVED, edits)
    assert kept["text"].to_pylist() == ["bc"]


def test_an_empty_shard_stays_empty() -> None:
    kept, reasons = apply_shard(documents([]), NONE_REMOVED)
    assert kept.num_rows == len(reasons) == 0
