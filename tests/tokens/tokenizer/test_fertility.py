from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt import storage
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.parts import summarize_part
from raypt.tokens.tokenizer.fertility import Fertility, measure, table
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import train
from tests.tokens.helpers import WORDS


def part(directory: Path, rows: list[tuple[str, str, str]]) -> str:
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("source", "lang", "text"))}
    uri = str(directory / "part-00000.parquet")
    pq.write_table(pa.table({"doc_key": list(range(len(rows))), **columns}), uri)
    return uri


def measured(directory: Path, tokenizer_uri: str, rows: list[tuple[str, str, str]]) -> dict[tuple[str, str], Fertility]:
    uri = part(directory, rows)
    return measure([uri], [summarize_part(uri)], tokenizer_uri, seed=0)


def test_everything_is_counted_by_source_and_language(tmp_path: Path, tokenizer_uri: str) -> None:
    rows = [("web", "en", "the cold sea"), ("web", "en", "a ship"), ("books", "zh", "中文 文本")]
    got = measured(tmp_path, tokenizer_uri, rows)
    tokenizer = Tokenizer.load(tokenizer_uri)
    assert set(got) == {("web", "en"), ("books", "zh")}
    english = got["web", "en"]
    assert (english.documents, english.bytes, english.characters, english.words) == (2, 18, 18, 5)
    assert english.tokens == len(tokenizer.encode("the cold sea")) + len(tokenizer.encode("a ship"))
    assert english.unknown == 0


def test_a_character_of_an_unspaced_script_is_a_word(tmp_path: Path, tokenizer_uri: str) -> None:
    got = measured(tmp_path, tokenizer_uri, [("web", "zh", "中文文本，2024年 naïve words　全角")])
    # 中 文 文 本 ，2024 年 naïve words 全 角
    assert got["web", "zh"].words == 10


def test_the_unspaced_scripts_are_those_of_curation_and_deduplication(tmp_path: Path, tokenizer_uri: str) -> None:
    # Bopomofo and Javanese are among them; a Thai or half-width mark belongs to its character.
    got = measured(tmp_path, tokenizer_uri, [("web", "th", "ภาษาไทย ㄅㄆ ꦗꦮ 𠀀𠀁 한국")])
    assert got["web", "th"].words == 7 + 2 + 2 + 2 + 1


def test_unknown_tokens_are_counted(tmp_path: Path) -> None:
    config = TokenizerConfig(algorithm="wordpiece", vocab_size=300)
    train([" ".join(WORDS) * 5], config).save(str(tmp_path / "tok"))
    got = measured(tmp_path, str(tmp_path / "tok"), [("web", "", "the ship"), ("web", "", "ʬʬ ship")])
    assert got["web", ""].unknown == 1
    assert got["web", ""].unknown_rate == pytest.approx(1 / got["web", ""].tokens)


def test_the_report_is_written_beside_the_tokenizer(tmp_path: Path, tokenizer_uri: str) -> None:
    Tokenizer.load(tokenizer_uri).save(str(tmp_path / "tok"))
    measured(tmp_path, str(tmp_path / "tok"), [("web", "", "the ship")])
    (row,) = storage.read_json(str(tmp_path / "tok" / "fertility.json"))
    assert row["lang"] is None
    assert row["bytes_per_token"] == round(8 / row["tokens"], 5)


def test_the_table_ends_with_the_total() -> None:
    groups = {("web", "en"): Fertility(1, 10, 10, 2, 4, 0), ("books", ""): Fertility(1, 90, 30, 30, 36, 9)}
    lines = table(groups).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["books", "-"], ["web", "en"], ["all", "-"]]
    assert lines[-1].split()[2:] == ["2", "0.00", "1.250", "1.000", "2.50", "22.500%"]
