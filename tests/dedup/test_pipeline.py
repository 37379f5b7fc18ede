from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raypt import storage
from raypt.dedup import DedupConfig, DedupResult, DedupShard, apply_shard, deduplicate, plan
from raypt.dedup.apply import stands_for
from raypt.dedup.config import ExactConfig, FuzzyConfig, SentenceConfig
from raypt.dedup.minhash import permutations
from raypt.dedup.shingles import sign
from raypt.dedup.tokenise import tokenise
from raypt.errors import UserError
from raypt.ledger import Amount
from tests.dedup.reference import documents, removed_keys, split, write_shards

CONFIG = DedupConfig(max_removed_fraction=None)


def mutated_corpus(count: int, seed: int = 0) -> list[str]:
    """Texts of which many are copies of an earlier one: exact, with other white space, with some words changed."""
    rng = np.random.default_rng(seed)
    words = np.array([f"w{i}" for i in range(4000)] + [chr(0x4E00 + i) for i in range(800)])
    texts: list[str] = []
    for _ in range(count):
        kind = rng.random()
        if texts and kind < 0.5:
            tokens = texts[rng.integers(len(texts))].split()
            for _ in range(int(len(tokens) * rng.choice([0.0, 0.005, 0.01, 0.03, 0.08]))):
                tokens[rng.integers(len(tokens))] = str(rng.choice(words))
            texts.append(rng.choice([" ", "  ", "\n"]).join(tokens))
        elif kind < 0.55:
            texts.append(str(rng.choice(["", "?!", "one two", "一二", "one two"])))
        else:
            texts.append(" ".join(rng.choice(words, rng.integers(3, 200))))
    return texts


def oracle(docs: pa.Table, *, exact: bool = True, fuzzy: bool = True) -> dict[int, str]:
    """doc_key -> reason, from all pairs of documents: shared signature rows and equal normalised texts."""
    texts, keys = docs["text"].to_pylist(), docs["doc_key"].to_pylist()
    n = len(texts)
    signatures, _, tokens = sign(tokenise(docs["text"]), ngram=5, permutations=permutations(112, 1), bands=14, rows=8)
    bands = signatures.reshape(n, 14, 8)
    normal = [" ".join(t.split()) for t in texts]
    label = list(range(n))
    pairs = []
    for i in range(n):
        same = ((bands[i] == bands[i + 1 :]).all(axis=2).any(axis=1) & (tokens[i] > 0) & (tokens[i + 1 :] > 0)) & fuzzy
        equal = np.array([normal[i] == t for t in normal[i + 1 :]], bool) & exact
        pairs += [(i, i + 1 + int(j)) for j in np.flatnonzero(same | equal)]
    changed = True
    while changed:
        changed = False
        for i, j in pairs:
            least = min(label[i], label[j])
            changed |= label[i] != least or label[j] != least
            label[i] = label[j] = least
    order = sorted(range(n), key=lambda i: (-len(texts[i].encode()), keys[i]))
    reasons, seen, seen_text = {}, set(), set()
    for i in order:
        if label[i] in seen:
            reasons[keys[i]] = "dedup.exact" if exact and (label[i], normal[i]) in seen_text else "dedup.fuzzy"
        seen.add(label[i])
        seen_text.add((label[i], normal[i]))
    return reasons


@pytest.mark.parametrize("partitions", [1, 5])
def test_removals_are_those_of_comparing_all_pairs(tmp_path: Path, partitions: int) -> None:
    tables = split(documents(mutated_corpus(1500)), 4)
    shards = write_shards(tmp_path, tables)
    config = CONFIG.model_copy(update={"partitions": partitions})
    result = deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"))
    expected = oracle(pa.concat_tables(tables))
    assert removed_keys(tmp_path / "work", shards) == expected
    assert sum(result.removed.values()) == len(expected) > 300


@pytest.mark.parametrize("partitions", [1, 5])
def test_a_kept_document_says_how_many_it_stands_for(tmp_path: Path, partitions: int) -> None:
    tables = split(documents(mutated_corpus(1500)), 4)
    shards = write_shards(tmp_path, tables)
    deduplicate(
        shards, CONFIG.model_copy(update={"partitions": partitions}), str(tmp_path / "work"), str(tmp_path / "o")
    )
    members = storage.read_parquet(str(tmp_path / "o" / "clusters.parquet"))
    of_cluster = Counter(members["cluster_id"].to_pylist())
    wanted = {row["doc_key"]: of_cluster[row["cluster_id"]] for row in members.to_pylist() if row["kept"]}
    assert max(wanted.values()) > 3
    total = 0
    for table, shard in zip(tables, shards, strict=True):
        name = f"shard-{shard.index:05d}.parquet"
        removed, sizes = (storage.read_parquet(str(tmp_path / "work" / kind / name)) for kind in ("removed", "sizes"))
        kept, _ = apply_shard(table, removed)
        found = stands_for(kept, sizes).field("cluster_size").to_pylist()
        assert found == [wanted.get(key, 1) for key in kept["doc_key"].to_pylist()]
        total += sum(found)
    assert total == sum(table.num_rows for table in tables)  # every document stands for itself or another stands for it


@pytest.mark.parametrize(("exact", "fuzzy"), [(True, False), (False, True), (False, False)])
def test_each_stage_can_be_switched_off(tmp_path: Path, exact: bool, fuzzy: bool) -> None:
    tables = split(documents(mutated_corpus(300)), 2)
    shards = write_shards(tmp_path, tables)
    config = DedupConfig(exact=ExactConfig(enabled=exact), fuzzy=FuzzyConfig(enabled=fuzzy))
    deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"))
    assert removed_keys(tmp_path / "work", shards) == oracle(pa.concat_tables(tables), exact=exact, fuzzy=fuzzy)


def run(tmp_path: Path, tables: list[pa.Table], config: DedupConfig = CONFIG, **priority: int) -> dict[int, str]:
    shards = write_shards(tmp_path, tables)
    deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"), source_priority=priority)
    return removed_keys(tmp_path / "work", shards)


LONG = "the same long enough sentence about deduplication of documents in a corpus of text"


def test_the_source_of_higher_priority_keeps_its_copy(tmp_path: Path) -> None:
    docs = documents([LONG + " and a longer crawl copy", LONG], source=["crawl", "wikipedia"])
    config = DedupConfig(fuzzy=FuzzyConfig(bands=56, rows=2))
    assert run(tmp_path / "a", [docs], config, wikipedia=1) == {0: "dedup.fuzzy"}
    assert run(tmp_path / "b", [docs], config) == {1: "dedup.fuzzy"}


def test_the_better_quality_score_is_kept(tmp_path: Path) -> None:
    docs = documents([LONG, LONG, LONG], quality_score=pa.array([0.2, None, 0.9]))
    assert run(tmp_path, [docs]) == {0: "dedup.exact", 1: "dedup.exact"}


def test_scope_source_compares_only_within_a_source(tmp_path: Path) -> None:
    docs = documents([LONG, LONG, LONG + "!"], source=["a", "b", "a"])
    assert run(tmp_path / "global", [docs]).keys() == {0, 1}
    assert run(tmp_path / "source", [docs], CONFIG.model_copy(update={"scope": "source"})).keys() == {0}


def test_documents_without_words_never_share_a_bucket(tmp_path: Path) -> None:
    texts = ["?!", "—", "…", "😀", ""]
    assert run(tmp_path, [documents(texts)]) == {}


def test_documents_removed_before_take_no_part(tmp_path: Path) -> None:
    (shard,) = write_shards(tmp_path, [documents([LONG, LONG, LONG])])
    decisions = str(tmp_path / "decided.parquet")
    storage.write_parquet(decisions, pa.table({"doc_key": [0, 1, 2], "reason": ["language.score", None, None]}))
    shard = DedupShard(shard.index, shard.docs_uri, decisions)
    result = deduplicate([shard], CONFIG, str(tmp_path / "work"), str(tmp_path / "out"))
    assert removed_keys(tmp_path / "work", [shard]) == {2: "dedup.exact"}
    assert result.documents == 2


def test_clusters_table_names_every_member_once_with_one_kept(tmp_path: Path) -> None:
    tables = split(documents(mutated_corpus(400)), 3)
    removed = run(tmp_path, tables)
    clusters = storage.read_parquet(str(tmp_path / "out" / "clusters.parquet"))
    keys = clusters["doc_key"].to_pylist()
    assert keys == sorted(set(keys))
    assert {k for k, kept in zip(keys, clusters["kept"].to_pylist(), strict=True) if not kept} == removed.keys()
    kept = clusters.filter(clusters["kept"])["cluster_id"].to_pylist()
    assert sorted(kept) == sorted(set(clusters["cluster_id"].to_pylist()))
    ids = dict(zip(*(pa.concat_tables(tables)[c].to_pylist() for c in ("doc_key", "id")), strict=True))
    assert [ids[k] for k in keys] == clusters["id"].to_pylist()


def test_the_ledger_adds_up_in_documents_and_bytes(tmp_path: Path) -> None:
    tables = split(documents(mutated_corpus(300)), 2)
    result = deduplicate(write_shards(tmp_path, tables), CONFIG, str(tmp_path / "work"), str(tmp_path / "out"))
    result.account.check("dedup")
    entered = result.account.entered
    assert entered.bytes == sum(len(t.encode()) for t in pa.concat_tables(tables)["text"].to_pylist())
    assert entered.documents == 300
    assert result.account.kept.documents == 300 - sum(result.removed.values())


def test_a_removal_rate_above_the_limit_fails_and_shows_the_biggest_cluster(tmp_path: Path) -> None:
    config = DedupConfig(max_removed_fraction=0.5)
    with pytest.raises(
        UserError, match=r"(?s)66\.7%.*max_removed_fraction=0\.5.*3 documents \(web 3\): 'the same long"
    ):
        run(tmp_path, [documents([LONG, LONG, LONG])], config)


def test_a_raised_limit_lets_the_same_run_pass(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, [documents([LONG, LONG, LONG])])
    with pytest.raises(UserError):
        deduplicate(shards, DedupConfig(max_removed_fraction=0.1), str(tmp_path / "work"), str(tmp_path / "out"))
    deduplicate(shards, DedupConfig(max_removed_fraction=0.7), str(tmp_path / "work"), str(tmp_path / "out"))
    assert len(removed_keys(tmp_path / "work", shards)) == 2


def test_a_changed_configuration_never_reuses_a_result(tmp_path: Path) -> None:
    docs = documents([LONG, LONG + " extra"])
    assert run(tmp_path, [docs], DedupConfig(fuzzy=FuzzyConfig(bands=56, rows=2))) == {0: "dedup.fuzzy"}
    assert run(tmp_path, [docs], DedupConfig(fuzzy=FuzzyConfig(enabled=False))) == {}


def test_changed_documents_are_deduplicated_anew(tmp_path: Path) -> None:
    assert len(run(tmp_path, [documents([LONG, LONG])])) == 1
    assert run(tmp_path, [documents([LONG, "something else entirely, of other words and other length"])]) == {}


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, [documents([LONG, LONG])])
    work, out = str(tmp_path / "work"), str(tmp_path / "out")
    first = deduplicate(shards, CONFIG, work, out)
    before = (tmp_path / "work" / "removed" / "shard-00000.parquet").stat().st_mtime_ns
    assert deduplicate(shards, CONFIG, work, out) == first
    assert (tmp_path / "work" / "removed" / "shard-00000.parquet").stat().st_mtime_ns == before
    assert not list((tmp_path / "work").glob("passes-*")), "intermediate files outlive the result"


def test_a_missing_file_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.parquet: no such file"):
        deduplicate([DedupShard(0, str(tmp_path / "gone.parquet"))], CONFIG, str(tmp_path / "w"), str(tmp_path / "o"))


def test_a_missing_text_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column 'text'; it has doc_key, id, source"):
        run(tmp_path, [documents(["a"]).drop_columns("text")])


def test_a_null_text_is_named_by_document(tmp_path: Path) -> None:
    docs = documents(["a", "b"]).set_column(3, "text", pa.array(["a", None]))
    with pytest.raises(UserError, match="document 1 has a null text"):
        run(tmp_path, [docs])


def test_an_empty_shard_is_no_work(tmp_path: Path) -> None:
    assert run(tmp_path, [documents([]), documents([LONG, LONG], shard=1)]) == {(1 << 32) + 1: "dedup.exact"}


def test_two_shards_of_one_index_are_refused(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, [documents([LONG])])
    with pytest.raises(ValueError, match=r"an index each: \[0, 0\]"):
        deduplicate(shards * 2, CONFIG, str(tmp_path / "w"), str(tmp_path / "o"))


NOTICE = "All rights reserved worldwide. No part may be copied. Ask us first for any use."


def words(seed: int, count: int = 80) -> str:
    return " ".join(f"w{x}" for x in np.random.default_rng(seed).integers(0, 10**6, count)).capitalize() + "."


def edited_texts(tmp_path: Path, tables: list[pa.Table], config: DedupConfig) -> tuple[list[str], DedupResult]:
    """The texts that are left after removals and edits, in doc_key order."""
    shards = write_shards(tmp_path, tables)
    result = deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"))
    texts = []
    for table, shard in zip(tables, shards, strict=True):
        name = f"shard-{shard.index:05d}.parquet"
        removed, edits = (storage.read_parquet(str(tmp_path / "work" / kind / name)) for kind in ("removed", "edits"))
        texts += apply_shard(table, removed, edits)[0]["text"].to_pylist()
    return texts, result


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_three_sentence_span_stays_only_where_it_comes_first(tmp_path: Path, partitions: int) -> None:
    texts = [f"{words(i)} {NOTICE} {words(100 + i)}" for i in range(6)]
    config = DedupConfig(sentences=SentenceConfig(enabled=True), partitions=partitions)
    left, result = edited_texts(tmp_path, split(documents(texts), 3), config)
    assert left == [texts[0]] + [f"{words(i)} {words(100 + i)}" for i in range(1, 6)]
    assert result.account.edited == {"dedup.sentences": Amount(5, 5 * (len(NOTICE) + 1))}


def test_a_line_in_few_documents_is_left_alone(tmp_path: Path) -> None:
    texts = [f"{words(i)}\nHome\n{words(100 + i)}" for i in range(4)]
    sentences = SentenceConfig(enabled=True, unit="line", length=1, max_documents=4)
    left, _ = edited_texts(tmp_path / "a", [documents(texts)], DedupConfig(sentences=sentences))
    assert left == texts
    fewer = sentences.model_copy(update={"max_documents": 3})
    left, _ = edited_texts(tmp_path / "b", [documents(texts)], DedupConfig(sentences=fewer))
    assert sum("Home" in text for text in left) == 1


def test_a_document_too_short_after_its_cuts_is_removed_and_the_bytes_add_up(tmp_path: Path) -> None:
    texts = [f"{NOTICE} {words(1)}", f"Few words here. {NOTICE}", f"{words(2)} {NOTICE}"]
    config = DedupConfig(sentences=SentenceConfig(enabled=True))
    left, result = edited_texts(tmp_path, [documents(texts)], config)
    assert left == [texts[0], words(2)]
    assert result.removed == {"dedup.remainder": 1}
    account = result.account
    gone = account.removed["dedup.remainder"].bytes + account.edited["dedup.sentences"].bytes
    assert account.entered.bytes - gone == account.kept.bytes == sum(len(t.encode()) for t in left)


def test_passages_of_removed_duplicates_do_not_count(tmp_path: Path) -> None:
    long = f"{words(1)} {NOTICE} {words(2)}"
    config = DedupConfig(sentences=SentenceConfig(enabled=True))
    left, _ = edited_texts(tmp_path, [documents([long, long])], config)
    assert left == [long]


def test_the_result_does_not_depend_on_how_shards_are_grouped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{text}. {NOTICE} {text[:40]}" for text in mutated_corpus(300)]
    tables = split(documents(texts), 7)
    sentences = SentenceConfig(enabled=True)
    config = DedupConfig(sentences=sentences, partitions=3, max_removed_fraction=None, task_bytes=1)
    expected = run(tmp_path / "a", tables, config)
    assert len(expected) > 50
    for tasks in (1, 2, 3):
        monkeypatch.setattr(plan, "MAP_TASKS", tasks)
        assert run(tmp_path / f"{tasks}", tables, config) == expected
        for kind in ("removed", "edits"):
            for i in range(7):
                name = f"work/{kind}/shard-{i:05d}.parquet"
                assert (tmp_path / f"{tasks}" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
        assert (tmp_path / f"{tasks}" / "out" / "clusters.parquet").exists()


def test_at_most_so_many_files_are_written_to_an_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAP_TASKS", 4)
    shards = write_shards(tmp_path, split(documents(mutated_corpus(60)), 30))
    config = DedupConfig(keep_intermediate=True, task_bytes=1)
    deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"))
    for kind in ("keys", "attributes", "members"):
        assert len(list((tmp_path / "work").glob(f"passes-*/{kind}/*"))) == 4
    assert len(removed_keys(tmp_path / "work", shards)) > 5
