"""Token files of other programs, byte by byte as their programs' sources say, and read back by the programs where pip
has them (mosaicml-streaming, litdata, datatrove, megatron-core)."""

import itertools
import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tokenizers
from tokenizers import models

from raypt.artefact import Output
from raypt.errors import UserError
from raypt.tokens.config import TokensConfig
from raypt.tokens.formats import datatrove, imported, litdata, mds, megatron, nanogpt
from raypt.tokens.formats.documents import Documents, of_part
from raypt.tokens.formats.export import FORMATS, export_tokens
from raypt.tokens.formats.imported import import_megatron
from raypt.tokens.store.files import TokenStore
from raypt.tokens.stream.producer import tokenize_parts
from raypt.tokens.stream.spec import StorePlan, prepare_store
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from tests.tokens.helpers import small_config

TEXTS = [[5, 6, 7], [300, 2], [9], [1, 65_000, 3, 4, 2]]
DOCUMENTS = Documents.of(
    np.array([i for text in TEXTS for i in text], np.uint32), np.array([3, 2, 0, 1, 5]), {"web": 11}
)


def flat(lists_of_ids: Iterable[Iterable[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(lists_of_ids))


def lists(documents: Any) -> list[list[int]]:
    return [d.tolist() for d in documents]


def test_megatron_files_are_those_of_its_indexed_dataset(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    assert megatron.write(output, "part", DOCUMENTS, vocab_size=65_400, length=4) == []
    assert {path: stamp.size for path, stamp in output.files.items()} == {"part.bin": 22, "part.idx": 34 + 48 + 40}
    assert np.fromfile(tmp_path / "part.bin", "<u2").tolist() == flat(TEXTS)
    expected = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 4, 5)
    expected += struct.pack("<4i", 3, 2, 1, 5) + struct.pack("<4q", 0, 6, 10, 12) + struct.pack("<5q", *range(5))
    assert (tmp_path / "part.idx").read_bytes() == expected
    megatron.write(Output(str(tmp_path)), "large", DOCUMENTS, vocab_size=65_500, length=4)
    assert np.fromfile(tmp_path / "large.bin", "<i4").tolist() == flat(TEXTS)
    for name in ("part", "large"):
        back = megatron.read(str(tmp_path / name), "web")
        assert lists(back) == TEXTS and back.tokens_by_source == {"web": 11}


def test_megatron_sequences_of_one_document_are_joined_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(np.array([9, 9, 3, 4, 1, 2, 5], "<u2").tobytes())
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 3, 3)
    index += struct.pack("<3i", 2, 2, 1) + struct.pack("<3q", 8, 4, 12) + struct.pack("<3q", 0, 2, 3)
    (tmp_path / "x.idx").write_bytes(index + bytes(3))  # with the modes of a multimodal data set
    assert lists(megatron.read(str(tmp_path / "x"), "s")) == [[1, 2, 3, 4], [5]]


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"X", "does not start as one does"),
        (9, b"\x02", "does not start as one does"),
        (17, b"\x07", "type 7"),
        (18, b"\x09", "bytes, not the"),
        (18 + 7, b"\x7f", "bytes, not the"),
        (34, b"\xff\xff\xff\xff", "lie outside"),
        (34, b"\xff\xff\xff\x7f", "lie outside"),
        (50 + 8, b"\x05", "lie outside"),
        (82, b"\x01", "do not share out"),
        (82 + 8, b"\x7f", "do not share out"),
    ],
)
def test_a_mutated_index_is_refused_by_name(tmp_path: Path, at: int, value: bytes, message: str) -> None:
    megatron.write(Output(str(tmp_path)), "part", DOCUMENTS, vocab_size=100_000, length=4)
    data = (tmp_path / "part.idx").read_bytes()
    (tmp_path / "part.idx").write_bytes(data[:at] + value + data[at + len(value) :])
    with pytest.raises(UserError, match=rf"part\.idx: .*{message}"):
        megatron.read(str(tmp_path / "part"), "s")


def test_a_cut_pair_of_files_is_refused_by_name(tmp_path: Path) -> None:
    megatron.write(Output(str(tmp_path)), "part", DOCUMENTS, vocab_size=100, length=4)
    index, data = ((tmp_path / f"part.{kind}").read_bytes() for kind in ("idx", "bin"))
    for name, content in (("idx", index), ("bin", data)):
        for size in range(len(content)):
            (tmp_path / f"part.{name}").write_bytes(content[:size])
            with pytest.raises(UserError, match=r"part\.idx: not the index"):
                megatron.read(str(tmp_path / "part"), "s")
        (tmp_path / f"part.{name}").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read \.idx and \.bin"):
        megatron.read(str(tmp_path / "none"), "s")


def test_nanogpt_has_one_flat_file_a_split(tmp_path: Path) -> None:
    for split, name in (("train", "train.bin"), ("heldout", "val.bin")):
        paths = [f"nanogpt/{split}/{part}" for part in ("a", "b")]
        for path in paths:
            nanogpt.write(Output(str(tmp_path)), path, DOCUMENTS, 65_536, 4)
        for _ in range(2):  # a second time, after a crash
            nanogpt.finish(Output(str(tmp_path)), f"nanogpt/{split}", [], paths)
        assert np.fromfile(tmp_path / "nanogpt" / name, np.uint16).tolist() == flat(TEXTS) * 2
    with pytest.raises(UserError, match="nanogpt reads ids of 16 bits"):
        nanogpt.check(65_537)


def mds_samples(directory: Path) -> list[list[int]]:
    """By the published layout, without the library."""
    out = []
    for shard in json.loads((directory / "index.json").read_text())["shards"]:
        data = (directory / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        (n,) = struct.unpack_from("<I", data)
        offsets = np.frombuffer(data, "<u4", n + 1, 4)
        config = json.loads(data[4 + 4 * (n + 1) : offsets[0]])
        assert n == shard["samples"] and config["column_encodings"] == ["ndarray:int32"]
        for a, b in itertools.pairwise(offsets):
            size, kind = struct.unpack_from("<IB", data, a)
            width = 1 << (kind & 3)
            assert size == b - a - 4 and kind >> 2 == 1
            (length,) = np.frombuffer(data, f"<u{width}", 1, a + 5)
            out.append(np.frombuffer(data, "<i4", length, a + 5 + width).tolist())
    return out


@pytest.mark.parametrize(("length", "limit"), [(4, 1 << 26), (4, 60), (300, 1 << 26)])
def test_mds_shards_are_as_streaming_has_them(
    tmp_path: Path, length: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mds, "SIZE_LIMIT", limit)
    documents = Documents.of(np.arange(1000, dtype=np.uint16), np.array([700, 300]), {"s": 1000})
    entries = mds.write(Output(str(tmp_path)), "a/part", documents, vocab_size=1000, length=length)
    mds.finish(Output(str(tmp_path)), "a", entries, ["a/part"])
    samples = mds_samples(tmp_path / "a")
    assert flat(samples) == list(range(1000)) and {len(s) for s in samples[:-1]} == {length}
    assert (len(entries) > 1) == (limit == 60)


def test_datatrove_files_are_as_its_tokenizer_writes_them(tmp_path: Path) -> None:
    datatrove.write(Output(str(tmp_path)), "part", DOCUMENTS, vocab_size=65_536, length=4)
    assert np.fromfile(tmp_path / "part.ds", "<u2").tolist() == flat(TEXTS)
    assert np.fromfile(tmp_path / "part.ds.index", "<u8").tolist() == [3, 5, 6, 11]
    assert (tmp_path / "part.ds.metadata").read_text().split("\n")[:2] == ["raypt|2", "11"]
    datatrove.write(Output(str(tmp_path)), "large", DOCUMENTS, vocab_size=65_537, length=4)
    assert np.fromfile(tmp_path / "large.ds", "<u4").tolist() == flat(TEXTS)


@pytest.mark.parametrize(("limit", "chunks"), [(1 << 26, 1), (5, 3), (1, 4)])
def test_litdata_chunks_are_as_its_writer_has_them(
    tmp_path: Path, limit: int, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litdata, "CHUNK_TOKENS", limit)
    entries = litdata.write(Output(str(tmp_path)), "a/part", DOCUMENTS, vocab_size=70_000, length=4)
    litdata.finish(Output(str(tmp_path)), "a", entries, ["a/part"])
    index = json.loads((tmp_path / "a" / "index.json").read_text())
    assert len(index["chunks"]) == chunks and index["config"]["data_format"] == ["no_header_tensor:16"]
    found = []
    for chunk in index["chunks"]:
        data = (tmp_path / "a" / chunk["filename"]).read_bytes()
        (n,) = struct.unpack_from("<I", data)
        offsets = np.frombuffer(data, "<u4", n + 1, 4)
        assert (len(data), n) == (chunk["chunk_bytes"], chunk["chunk_size"]) == (offsets[-1], n)
        found += [np.frombuffer(data[a:b], "<i4").tolist() for a, b in itertools.pairwise(offsets)]
        assert chunk["dim"] == sum(len(f) for f in found[-n:])
    assert found == TEXTS


Exported = tuple[Path, TokensConfig, StorePlan]


def plan_of(uris: list[str], tokenizer_uri: str, config: TokensConfig, store: Path, seed: int = 1) -> StorePlan:
    return prepare_store(uris, Tokenizer.load(tokenizer_uri), config, str(store), seed)


@pytest.fixture
def exported(curated: list[str], tokenizer_uri: str, tmp_path: Path) -> Exported:
    config = small_config(export={"formats": list(FORMATS)}, heldout={"fraction": 0.3})
    plan = plan_of(curated, tokenizer_uri, config, tmp_path / "store")
    accounts = tokenize_parts(plan, config, tokenizer_uri)
    export_tokens(plan, tokenizer_uri, config, str(tmp_path / "out"), accounts=accounts)
    return tmp_path / "out", config, plan


def expected(curated: list[str], tokenizer_uri: str, config: TokensConfig, split: str) -> list[list[int]]:
    """Every document of the split, whole, in the order of the text."""
    tokenizer, out = Tokenizer.load(tokenizer_uri), []
    for uri in curated:
        out += lists(of_part(uri, tokenizer, config, 1, heldout=split == "heldout"))
    return out


def test_an_export_has_every_document_once_and_whole(
    exported: Exported, curated: list[str], tokenizer_uri: str
) -> None:
    out, config, _ = exported
    tokenizer = Tokenizer.load(tokenizer_uri)
    every = [tokenizer.encode(t, eos=True) for uri in curated for t in pq.read_table(uri)["text"].to_pylist()]
    splits = {split: expected(curated, tokenizer_uri, config, split) for split in ("train", "heldout")}
    assert sorted(splits["train"] + splits["heldout"]) == sorted(every) and min(map(len, splits.values())) > 5
    for split, documents in splits.items():
        ids = flat(documents)
        prefixes = sorted(p.with_suffix("") for p in (out / "megatron" / split).glob("*.idx"))
        assert [d for p in prefixes for d in lists(megatron.read(str(p), "s"))] == documents
        assert np.fromfile(out / "nanogpt" / nanogpt.NAMES[split], "<u2").tolist() == ids
        assert flat(mds_samples(out / "mds" / split)) == ids
        files = sorted((out / "datatrove" / split).glob("*.ds"))
        assert flat(np.fromfile(f, "<u2").tolist() for f in files) == ids
        chunks = json.loads((out / "litdata" / split / "index.json").read_text())["chunks"]
        assert sum(c["chunk_size"] for c in chunks) == len(documents) and sum(c["dim"] for c in chunks) == len(ids)
        index = json.loads((out / "export.json").read_text())["account"]
        assert index["splits"][split]["documents"] == len(documents)
        assert sum(index["splits"][split]["tokens_by_source"].values()) == len(ids)


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_an_export_is_made_once_and_never_over_another(exported: Exported, tokenizer_uri: str, tmp_path: Path) -> None:
    out, config, plan = exported
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != "index.zst"}
    export_tokens(plan, tokenizer_uri, config, str(out))
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != "index.zst"} == before
    other = plan_of(list(plan.part_uris), tokenizer_uri, config, tmp_path / "other", seed=2)
    with pytest.raises(UserError, match=r"heldout: was 'fraction=0.3 seed=1'"):
        export_tokens(other, tokenizer_uri, config, str(out))


@pytest.mark.parametrize(
    "damaged",
    [
        "megatron/train/shard-00002.bin",
        "nanogpt/train.bin",
        "mds/heldout/index.json",
        "litdata/train/shard-00001-0.bin",
    ],
)
def test_a_damaged_file_of_an_export_is_made_anew(exported: Exported, tokenizer_uri: str, damaged: str) -> None:
    out, config, plan = exported
    whole = files_of(out)
    (out / damaged).write_bytes(whole[damaged][:-1])
    export_tokens(plan, tokenizer_uri, config, str(out))
    assert files_of(out) == whole


def test_a_vocabulary_that_a_format_cannot_hold_is_refused_before_anything_is_written(
    curated: list[str], tokenizer_uri: str, tmp_path: Path
) -> None:
    vocabulary = {str(i): i for i in range(70_000)}
    Tokenizer(tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="0")), eos="1").save(str(tmp_path / "large"))
    config = small_config(export={"formats": ["megatron", "nanogpt"]})
    plan = plan_of(curated, tokenizer_uri, config, tmp_path / "store")
    with pytest.raises(UserError, match="nanogpt reads ids of 16 bits"):
        export_tokens(plan, str(tmp_path / "large"), config, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def documents_in(store: str) -> dict[str, list[list[int]]]:
    """Source -> the documents of a store and of its held-out store, whose samples are long enough for whole ones."""
    found: dict[str, list[list[int]]] = {}
    for uri in (store, f"{store}/heldout"):
        reader = TokenStore(uri)
        for shard, section in reader.sections():
            rows = np.arange(section.first_row, section.first_row + section.rows)
            for tokens, segments in zip(*reader.shard(shard).read(rows), strict=True) if section.rows else ():
                documents = [tokens[segments == s].tolist() for s in range(1, segments.max() + 1)]
                found.setdefault(section.source, []).extend(documents)
    return found


@pytest.mark.parametrize(("fraction", "shard_tokens"), [(0.0, 1 << 25), (0.3, 1 << 25), (0.3, 500)])
def test_a_store_of_megatron_files_has_their_documents(
    exported: Exported,
    tokenizer_uri: str,
    tmp_path: Path,
    fraction: float,
    shard_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, _, _ = exported
    monkeypatch.setattr(imported, "SHARD_TOKENS", shard_tokens)
    config = small_config(packing={"sequence_length": 2048}, heldout={"fraction": fraction})
    prefixes = sorted(str(p.with_suffix("")) for p in (out / "megatron" / "train").glob("*.idx"))
    sources, store = {"web": prefixes[:3], "books": prefixes[3:]}, str(tmp_path / "imported")
    options = (tokenizer_uri, config, store, 0, str(tmp_path / "work"))
    plan, accounts = import_megatron(sources, *options)
    found = documents_in(store)
    for source, chosen in sources.items():
        assert sorted(found[source]) == sorted(d for p in chosen for d in lists(megatron.read(p, "")))
    assert (len(plan.parts) > len(prefixes)) == (shard_tokens == 500)
    assert any(len(s.rows and s.source) for _, s in TokenStore(f"{store}/heldout").sections() if s.rows) == bool(
        fraction
    )
    assert set(plan.bytes_by_source) == {"web", "books"} and sum(a.bytes for a in accounts) == 0
    monkeypatch.setattr(megatron.Index, "read", None)
    assert import_megatron(sources, *options) == (plan, accounts)  # finds it there
    monkeypatch.undo()
    with pytest.raises(UserError, match="made of other inputs"):
        import_megatron({"web": prefixes}, *options)


def test_a_megatron_file_that_changed_is_measured_anew(tokenizer_uri: str, tmp_path: Path) -> None:
    config, sources = small_config(heldout={"fraction": 0.0}), {"s": [str(tmp_path / "part")]}
    for ids in ([3, 4, 5], [3, 4, 6]):
        documents = Documents.of(np.array(ids, np.uint16), np.array([3]), {"s": 3})
        megatron.write(Output(str(tmp_path)), "part", documents, vocab_size=300, length=4)
        options = (str(tmp_path / f"store{ids[2]}"), 0, str(tmp_path / "work"))
        import_megatron(sources, tokenizer_uri, config, *options)
        assert documents_in(options[0]) == {"s": [ids]}


def test_runs_of_documents_are_cut_by_their_tokens(tmp_path: Path) -> None:
    lengths = np.array([1] * 10 + [100, 0, 3, 3, 3, 3])
    documents = Documents(np.arange(122, dtype=np.uint16), np.concatenate([[0], np.cumsum(lengths)]), {})
    megatron.write(Output(str(tmp_path)), "part", documents, vocab_size=300, length=4)
    index = megatron.Index.of(str(tmp_path / "part"))
    assert index.cuts(1000) == [0, 16]
    cuts = index.cuts(20)
    assert cuts == [0, 11, 16]  # a document that is longer than a run is not cut
    ids = [d for a, b in itertools.pairwise(cuts) for d in lists(index.read("s", a, b))]
    assert ids == [d for d in lists(documents) if d]


def test_files_of_megatron_that_are_not_there_are_refused_with_their_key(tokenizer_uri: str, tmp_path: Path) -> None:
    (tmp_path / "x.idx").write_bytes(b"")
    with pytest.raises(UserError, match=r"tokens\.megatron\.web: there is no .*x\.bin"):
        import_megatron({"web": [str(tmp_path / "x")]}, tokenizer_uri, small_config(), "unused", 0, "unused")


def test_ids_beyond_the_vocabulary_are_refused_by_name(tokenizer_uri: str, tmp_path: Path) -> None:
    megatron.write(Output(str(tmp_path)), "part", DOCUMENTS, vocab_size=70_000, length=4)
    options = (tokenizer_uri, small_config(), str(tmp_path / "store"), 0, str(tmp_path / "work"))
    with pytest.raises(UserError, match=r"part\.bin: holds the token 65000"):
        import_megatron({"s": [str(tmp_path / "part")]}, *options)


def test_empty_parts_are_exported_too(curated: list[str], tokenizer_uri: str, tmp_path: Path) -> None:
    empty = pq.read_table(curated[0]).slice(0, 0)
    pq.write_table(empty, tmp_path / "part-00000.parquet")
    config = small_config(export={"formats": list(FORMATS)})
    plan = plan_of([str(tmp_path / "part-00000.parquet"), curated[1]], tokenizer_uri, config, tmp_path / "store")
    export_tokens(plan, tokenizer_uri, config, str(tmp_path / "out"))
    assert lists(megatron.read(str(tmp_path / "out" / "megatron" / "train" / "shard-00000"), "s")) == []


def test_megatron_reads_what_is_written(exported: Exported, curated: list[str], tokenizer_uri: str) -> None:
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed")
    out, config, _ = exported
    found = []
    for prefix in sorted(p.with_suffix("") for p in (out / "megatron" / "train").glob("*.idx")):
        data_set = indexed.IndexedDataset(str(prefix))
        assert len(data_set.document_indices) == len(data_set) + 1
        found += [data_set[i].tolist() for i in range(len(data_set))]
    assert found == expected(curated, tokenizer_uri, config, "train")


def test_streaming_reads_what_is_written(exported: Exported, curated: list[str], tokenizer_uri: str) -> None:
    streaming = pytest.importorskip("streaming", reason="mosaicml-streaming is not installed")
    out, config, _ = exported
    streaming.base.util.clean_stale_shared_memory()
    data_set = streaming.StreamingDataset(local=str(out / "mds" / "train"), shuffle=False, batch_size=1)
    found = [data_set[i]["tokens"].tolist() for i in range(len(data_set))]
    assert flat(found) == flat(expected(curated, tokenizer_uri, config, "train"))


def test_datatrove_reads_what_is_written(exported: Exported, curated: list[str], tokenizer_uri: str) -> None:
    library = pytest.importorskip("datatrove.utils.dataset", reason="datatrove is not installed")
    out, config, _ = exported
    documents, at = expected(curated, tokenizer_uri, config, "train"), 0
    ends = np.cumsum([len(d) for d in documents])
    for file in sorted((out / "datatrove" / "train").glob("*.ds")):
        data_set = library.DatatroveFileDataset(str(file), seq_len=15, token_size=2)
        tokens = flat(data_set[i]["input_ids"].tolist() for i in range(len(data_set)))
        assert tokens == flat(documents)[at : at + len(tokens)] and len(tokens) > 100
        here = np.fromfile(f"{file}.index", "<u8") + at
        assert set(here.tolist()) <= set(ends.tolist())
        at = int(here[-1])
    assert at == ends[-1]


def test_litdata_reads_what_is_written(exported: Exported, curated: list[str], tokenizer_uri: str) -> None:
    library = pytest.importorskip("litdata", reason="litdata is not installed")
    out, config, _ = exported
    directory = out / "litdata" / "train"
    block = 16
    loader = library.TokensLoader(block_size=block)
    data_set = library.StreamingDataset(str(directory), item_loader=loader, shuffle=False)
    found = [t for i in range(len(data_set)) for t in data_set[i].tolist()]
    chunks = json.loads((directory / "index.json").read_text())["chunks"]
    ids, at, whole = flat(expected(curated, tokenizer_uri, config, "train")), 0, []
    for chunk in chunks:  # what a chunk has beyond whole blocks is left out by LitData
        whole += ids[at : at + chunk["dim"] // block * block]
        at += chunk["dim"]
    assert found == whole and len(found) > 100
