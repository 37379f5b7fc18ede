from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt.errors import UserError
from raypt.tokens.store.files import TokenStore
from raypt.tokens.store.shards import (
    tokenize_heldout,
    tokenize_shard,
    tokens_by_source,
)
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from tests.tokens.helpers import small_config, write_parts


@pytest.fixture
def tokenizer(tokenizer_uri: str) -> Tokenizer:
    return Tokenizer.load(tokenizer_uri)


def texts_in(store: TokenStore, tokenizer: Tokenizer, source: str) -> list[str]:
    """The texts of all segments of a source, sorted; whole documents only if none was cut."""
    out = []
    for shard, section in store.sections():
        if section.source != source or not section.rows:
            continue
        rows = np.arange(section.first_row, section.first_row + section.rows)
        for tokens, segments in zip(*store.shard(shard).read(rows), strict=True):
            out += [tokenizer.decode(tokens[segments == s].tolist()) for s in range(1, segments.max() + 1)]
    return sorted(out)


@pytest.mark.parametrize("strategy", ["best_fit", "greedy"])
def test_the_ledger_adds_up(curated: list[str], tokenizer: Tokenizer, tmp_path: Path, strategy: str) -> None:
    config = small_config(packing={"strategy": strategy})
    ledger = tokenize_shard(curated[4], 4, tokenizer, config, str(tmp_path))
    slots = ledger.samples * (config.packing.sequence_length + 1)
    assert ledger.text_tokens + ledger.document_tokens == ledger.packed_tokens == slots - ledger.padding
    assert ledger.document_tokens == ledger.documents
    assert ledger.dropped_tokens == {}
    assert ledger.split_documents > 0


def test_training_and_heldout_store_share_out_all_documents(
    curated: list[str], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = small_config(packing={"sequence_length": 2048}, heldout={"fraction": 0.3})
    train = tokenize_shard(curated[3], 3, tokenizer, config, str(tmp_path), seed=1)
    held = tokenize_heldout(curated[3], 3, tokenizer, config, str(tmp_path), seed=1)
    assert train.heldout_documents == held.heldout_documents == held.documents > 0
    table = pq.read_table(curated[3])
    for source in ("web", "books"):
        stores = [TokenStore(str(tmp_path)), TokenStore(str(tmp_path / "heldout"))]
        seen = [texts_in(store, tokenizer, source) for store in stores]
        assert not set(seen[0]) & set(seen[1])
        expected = [t for t, s in zip(*(table[c].to_pylist() for c in ("text", "source")), strict=True) if s == source]
        assert sorted(seen[0] + seen[1]) == sorted(expected)


def test_heldout_sections_are_by_source_and_language(curated: list[str], tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenize_heldout(curated[3], 3, tokenizer, small_config(heldout={"fraction": 0.5}), str(tmp_path))
    groups = {(s.source, s.lang) for _, s in TokenStore(str(tmp_path / "heldout")).sections()}
    assert groups == {("web", "en"), ("web", "zh"), ("books", "en"), ("books", "zh")}


def test_a_finished_shard_is_not_made_again(curated: list[str], tokenizer: Tokenizer, tmp_path: Path) -> None:
    first = tokenize_shard(curated[0], 0, tokenizer, small_config(), str(tmp_path))
    before = (tmp_path / "shard-00000.tok").stat().st_mtime_ns
    assert tokenize_shard(curated[0], 0, tokenizer, small_config(), str(tmp_path)) == first
    assert (tmp_path / "shard-00000.tok").stat().st_mtime_ns == before


def test_a_shard_made_with_another_packing_is_refused_by_name(
    curated: list[str], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenize_shard(curated[0], 0, tokenizer, small_config(), str(tmp_path))
    with pytest.raises(UserError, match=r"(?s)shard-00000\.json: .*settings.packing: .*strategy=greedy"):
        tokenize_shard(curated[0], 0, tokenizer, small_config(packing={"strategy": "greedy"}), str(tmp_path))


def test_a_shard_made_with_another_tokenizer_is_refused_by_name(
    curated: list[str], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenize_shard(curated[0], 0, tokenizer, small_config(), str(tmp_path / "store"))
    prepare_tokenizer(curated, small_config(tokenizer={"vocab_size": 300}).tokenizer, str(tmp_path / "other"), seed=0)
    other = Tokenizer.load(str(tmp_path / "other"))
    both = rf"settings.tokenizer: was '{tokenizer.fingerprint}', is '{other.fingerprint}'"
    with pytest.raises(UserError, match=rf"(?s)shard-00000\.json: .*{both}"):
        tokenize_shard(curated[0], 0, other, small_config(), str(tmp_path / "store"))


def test_documents_without_a_token_are_counted(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (uri,) = write_parts(tmp_path / "curated", [["web"] * 20])
    table = pq.read_table(uri)
    text = table["text"].to_pylist()
    text[3] = text[7] = ""
    pq.write_table(table.set_column(table.schema.get_field_index("text"), "text", [text]), uri)
    config = small_config(packing={"add_eos": False}, heldout={"fraction": 0.0})
    assert tokenize_shard(uri, 0, tokenizer, config, str(tmp_path / "store")).empty_documents == 2


def test_a_broken_part_is_an_error_naming_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "part-00000.parquet"
    path.write_bytes(b"PAR1 this is not parquet")
    with pytest.raises(UserError, match=r"part-00000\.parquet: cannot read"):
        tokenize_shard(str(path), 0, tokenizer, small_config(), str(tmp_path / "store"))


@pytest.mark.parametrize(
    ("values", "counted"),
    [({"algorithm": "wordpiece"}, "unknown"), ({"algorithm": "unigram"}, "byte_fallback"), ({}, "")],
)
def test_text_outside_the_vocabulary_is_counted_by_source(
    curated: list[str], tmp_path: Path, values: dict[str, str], counted: str
) -> None:
    config = small_config(tokenizer={"vocab_size": 420, **values}, heldout={"fraction": 0.0})
    tokenizer = prepare_tokenizer(curated, config.tokenizer, str(tmp_path / "tokenizer"), seed=0)
    texts = {"plain": ["the ship"] * 3, "foreign": ["the \u0e5b ship", "\u0e5b \u0e5b", ""]}
    rows = [(source, text) for source, group in texts.items() for text in group]
    part = pa.table(
        {
            "doc_key": pa.array(range(len(rows)), pa.int64()),
            "source": [source for source, _ in rows],
            "text": [text for _, text in rows],
        }
    )
    pq.write_table(part, tmp_path / "part-00000.parquet")
    ledger = tokenize_shard(str(tmp_path / "part-00000.parquet"), 0, tokenizer, config, str(tmp_path / "store"))
    by_source = tokens_by_source([ledger, ledger])
    assert sum(c["text"] for c in by_source.values()) == 2 * ledger.text_tokens
    assert by_source["plain"] == {"text": 2 * 3 * len(tokenizer.encode("the ship")), "unknown": 0, "byte_fallback": 0}
    per_character = {"unknown": 1, "byte_fallback": 3}
    expected = {name: 2 * 3 * per_character[name] * (name == counted) for name in per_character}
    assert {name: by_source["foreign"][name] for name in per_character} == expected
    assert (
        tokenize_shard(str(tmp_path / "part-00000.parquet"), 0, tokenizer, config, str(tmp_path / "store")).by_source
        == ledger.by_source
    )  # read back from the file
