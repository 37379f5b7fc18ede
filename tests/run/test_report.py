"""The report page is made of what the run directory has, and runs nothing that a document says."""

import functools
import html
import json
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from raypt import storage
from raypt.dedup.config import DedupConfig
from raypt.dedup.pipeline import deduplicate
from raypt.dedup.plan import DedupShard
from raypt.html import text
from raypt.ledger import Amount, Ledger, StageAccount
from raypt.run.examples import MOST_PARTS, PER_RULE, excerpt, look, spread
from raypt.run.report import build_report
from raypt.run.write import REMOVED_SCHEMA
from raypt.run_dir import RunDir
from raypt.tokens.stream.waits import Waits
from raypt.training.data_wait import StepWait, explain


def _ledger() -> Ledger:
    stage = StageAccount(
        entered=Amount(10, 1000),
        kept=Amount(7, 600),
        removed={"language.score_min": Amount(3, 300)},
        edited={"c4.short_line": Amount(2, 100)},
    )
    return Ledger({"language": stage})


def test_an_empty_run_directory_makes_a_page(tmp_path: Path) -> None:
    assert "<h1>empty</h1>" in build_report(RunDir(str(tmp_path)), "empty")


def test_the_funnel_shows_what_each_rule_took(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text(json.dumps(_ledger().to_json()))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "removed language.score_min</td><td class=n>3</td><td class=n>300" in page
    assert "cut c4.short_line</td><td class=n>2</td><td class=n>100" in page


def test_only_a_share_of_the_stated_peak_is_called_mfu(tmp_path: Path) -> None:
    def page(*keys: str) -> str:
        rows = [{"step": n, "loss": 3.0} | dict.fromkeys(keys, 0.4) for n in (1, 2)]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return build_report(RunDir(str(tmp_path)), "run")

    both, measured = page("mfu_stated", "matmul_share"), page("matmul_share")
    assert "MFU: of the stated peak" in both
    assert "Of a timed matrix product (no MFU)" in both
    assert measured.replace("(no MFU)", "").count("MFU") == 0


def test_tasks_are_drawn_over_the_steps_they_were_asked_at(tmp_path: Path) -> None:
    figures = {"blimp": {"accuracy": 0.6, "questions": 9, "chance": 0.5, "seconds": 1.0}}
    rows = [{"step": n, "loss": 3.0} | ({"tasks": figures} if n > 1 else {}) for n in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "share answered rightly" in page
    assert "blimp" in page


def test_text_from_documents_is_shown_not_run(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    (tmp_path / "sample.json").write_text(json.dumps([{"prompt": evil, "text": evil}]))
    page = build_report(RunDir(str(tmp_path)), evil)
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_the_generated_text_names_the_model_that_wrote_it(tmp_path: Path) -> None:
    entry = {"prompt": "The ", "text": "end", "checkpoint": "step-00000009-1"}
    (tmp_path / "sample.json").write_text(json.dumps([entry]))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "<p class=muted>of step-00000009-1</p><pre><b>The </b>end</pre>" in page


def test_a_finished_run_without_a_generated_text_says_so_and_one_that_trains_does_not(tmp_path: Path) -> None:
    missing = "There is none: its generation failed"
    assert missing not in build_report(RunDir(str(tmp_path)), "run")
    (tmp_path / "summary.json").write_text(json.dumps({"unigram_nats": 6.5}))
    assert missing in build_report(RunDir(str(tmp_path)), "run")


def test_duplicates_between_sources_and_contamination_are_shown(tmp_path: Path) -> None:
    shared = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    exam = " ".join(reversed(shared.split()))
    shards = []
    for i, source in enumerate(("wiki", "crawl")):
        texts = [shared, f"{source} {i} of its own"] + ([exam] if source == "crawl" else [])
        table = pa.table(
            {
                "doc_key": [(i << 32) + row for row in range(len(texts))],
                "id": [f"{source}{row}" for row in range(len(texts))],
                "source": [source] * len(texts),
                "text": texts,
            }
        )
        pq.write_table(table, tmp_path / f"{source}.parquet")
        shards.append(DedupShard(i, str(tmp_path / f"{source}.parquet")))
    (tmp_path / "exam.txt").write_text(exam + "\n")
    config = DedupConfig.model_validate({"contamination": {"paths": [str(tmp_path / "exam.txt")]}})
    deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "dedup"), source_priority={"wiki": 1})
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "<td>crawl</td><td class=n>3</td><td class=n>2</td>" in page
    assert "exam.txt" in page


def test_the_loss_stands_beside_the_unigram_entropy(tmp_path: Path) -> None:
    lines = [{"step": s, "loss": 8.0 - s, "tokens_per_s": 10.0} for s in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "summary.json").write_text(json.dumps({"unigram_nats": 6.5}))
    assert "unigram entropy 6.5" in build_report(RunDir(str(tmp_path)), "run")


def test_the_parts_of_a_step_are_shown_by_their_median(tmp_path: Path) -> None:
    lines = [
        {"step": s, "loss": 5.0, "forward_s": forward, "backward_s": 0.02, "update_s": 0.003, "communication_s": 0.004}
        for s, forward in ((1, 9.0), (2, 0.010), (3, 0.012))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "Parts of a step" in page
    for shown in ("12.0 ms", "20.0 ms", "3.0 ms", "4.0 ms"):
        assert shown in page


def test_the_padding_of_packing_is_shown(tmp_path: Path) -> None:
    tokens = {"packed_tokens": 9876, "padding": 124, "padding_fraction": 0.0124, "split_documents": 3}
    (tmp_path / "summary.json").write_text(json.dumps({"tokens": tokens}))
    page = build_report(RunDir(str(tmp_path)), "run")
    for name, shown in (("padding", "124"), ("padding fraction", "0.0124"), ("split documents", "3")):
        assert f"<td>{name}</td><td class=n>{shown}</td>" in page


def test_what_training_waited_for_is_shown_with_the_reasons(tmp_path: Path) -> None:
    wait = StepWait(0.5, Waits(shards=0.375, reading=0.125, shard=7, source="web", shard_tokens_per_s=1000.0))
    reason = explain(wait, 10, 5.0, 2000.0)
    row = {"loss": 8.0, "data_wait_fraction": 0.1, "data_wait_s": wait.by_cause()}
    rows = [row | {"step": 1}, row | {"step": 2, "data_wait_reason": reason}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "shards being tokenized 0.75 s, reading the store 0.25 s" in page
    assert f"<td class=n>2</td><td>{html.escape(reason)}</td>" in page
    assert "the producer is behind: raise tokens.stream.tokenizers" in page


def test_text_outside_the_vocabulary_has_a_row_a_source(tmp_path: Path) -> None:
    counts = {"web": {"text": 2000, "unknown": 7, "byte_fallback": 40}}
    (tmp_path / "summary.json").write_text(json.dumps({"vocabulary": counts}))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "Text outside the vocabulary" in page
    cells = "</td><td class=n>".join(["2,000", "7", "0.350%", "40", "2.000%"])
    assert f"web</td><td class=n>{cells}" in page


RULE = "gopher_quality.word_count_min"


def _curated(run: RunDir, shards: int, per_shard: int, reason: str = RULE, text: str = "A short text") -> None:
    """A run of so many shards, all of whose documents one rule removed."""
    for shard in range(shards):
        keys = [(shard << 32) + row for row in range(per_shard)]
        gone = {"doc_key": keys, "id": [f"d{key}" for key in keys], "source": ["web"] * per_shard}
        gone |= {"stage": [reason.split(".")[0]] * per_shard, "reason": [reason] * per_shard}
        storage.write_parquet(run.removed(shard), pa.table(gone, REMOVED_SCHEMA))
        own = [{"word_count": row, "mean_word_length": 4.5} for row in range(per_shard)]
        tagged = {"doc_key": keys, "text": [f"{text} {key}" for key in keys], "lang": ["en"] * per_shard}
        tagged |= {"text_bytes": [20] * per_shard, "gopher_quality": own}
        storage.write_parquet(run.tagged(shard), pa.table(tagged), row_group_size=2)
        storage.write_parquet(run.curated(shard), pa.table({"source": ["web"], "lang": ["en"], "text_bytes": [1]}))
    storage.write_bytes(run.config, b"curation: {stages: [gopher_quality], gopher_quality: {word_count_min: 50}}")
    storage.write_json(run.ledger, _ledger().to_json())


def test_removed_documents_stand_beside_what_their_rule_measured(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    _curated(run, 2, 5)
    page = build_report(run, "run")
    assert f"<summary>{RULE} (10 documents)</summary>" in page
    (shown,) = {len(look(run, [0, 1]).chosen[RULE])}
    assert shown == PER_RULE == page.count("A short text")
    for document in look(run, [0, 1]).chosen[RULE]:
        value = document.doc_key & 0xFFFFFFFF
        assert f"<td>word_count</td><td class=n>{value}</td><td>at least 50</td>" in page
        assert f"A short text {document.doc_key}</pre>" in page


def test_the_next_page_of_a_start_reads_no_example_again_unless_there_are_more_parts(tmp_path: Path) -> None:
    run, kept = RunDir(str(tmp_path)), dict[str, str]()
    _curated(run, 2, 5)
    first = build_report(run, "run", kept=kept)
    for shard in range(2):
        storage.remove_file(run.removed(shard))
    assert build_report(run, "run", kept=kept) == first
    _curated(run, 3, 5)
    assert f"<summary>{RULE} (15 documents)</summary>" in build_report(run, "run", kept=kept)
    assert len(kept) == 1


def test_examples_depend_on_the_keys_alone(tmp_path: Path) -> None:
    one, two = RunDir(str(tmp_path / "one")), RunDir(str(tmp_path / "two"))
    _curated(one, 3, 40)
    _curated(two, 3, 40)
    for shard in range(3):  # the same rows in another order
        table = storage.read_parquet(two.removed(shard))
        storage.write_parquet(two.removed(shard), table.take(list(range(39, -1, -1))))
    assert look(one, [0, 1, 2]).chosen == look(two, [0, 1, 2]).chosen


def test_a_page_opens_as_many_parts_at_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(str(tmp_path))
    _curated(run, 3 * MOST_PARTS, 3)
    opened: list[str] = []
    real = storage.open_ranges
    monkeypatch.setattr(
        storage, "open_ranges", lambda uri, **how: opened.append(uri.split("/")[-2]) or real(uri, **how)
    )
    page = build_report(run, "run")
    assert opened.count("removed") == MOST_PARTS
    assert opened.count("tagged") <= PER_RULE
    assert f"counts are of {MOST_PARTS} of {3 * MOST_PARTS} parts" in page


@given(st.integers(1, 10**6), st.integers(1, 30))
def test_what_is_looked_at_is_spread_over_all(count: int, most: int) -> None:
    found = spread(range(count), most)
    assert len(set(found)) == min(count, most)
    assert max(b - a for a, b in zip(found, [*found[1:], count], strict=True)) <= -(-count // min(most, count))


@given(
    st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(["</pre><script>alert(1)</script>", "\u202e"])
)
def test_an_excerpt_holds_no_tag_and_nothing_that_turns_the_page(evil: str) -> None:
    made = text(excerpt(f"<b>{evil}"))
    assert "<" not in made and ">" not in made
    assert all(c.isprintable() or c == "\n" for c in made)


class _Tags(HTMLParser):
    """The tags of a page with the names of their attributes, what they point to, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.links: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.links |= {value or "" for name, value in attrs if name in ("href", "src", "action", "style")}


def _hostile_run(place: Path, evil: str) -> str:
    """The page of a run in which whatever comes from outside is `evil`: names, texts, errors, labels."""
    run, clean = RunDir(str(place)), evil.encode("utf-8", "replace").decode()  # Parquet holds no lone surrogates
    _curated(run, 1, 1, reason=f"{clean}.{clean}", text=clean)
    amount, figures = Amount(1, 10), {"documents": 1, "bytes": 2}
    account = StageAccount(Amount(2, 20), Amount(1, 10), {evil: amount}, {evil + "2": Amount(1, 0)})
    storage.write_json(run.ledger, Ledger({evil: account}).to_json())
    entry = dict.fromkeys(("source", "file", "kind", "error", "excerpt"), evil) | {"row": 1, "byte_offset": 2}
    storage.write_bytes(run.quarantine(0), (json.dumps(entry) + "\n").encode())
    start = dict.fromkeys(("job", "command", "host", "python", "raypt", "commit", "error", "remedy", "stage"), evil)
    use = {"machines": [[evil, 1]], "stages": {evil: {"seconds": 1.0, "cpu_there_s": 1.0}}}
    start |= {"started": 1.0, "ended": 2.0, "cpus": 1, "memory_bytes": 1, "packages": {evil: evil}, "use": use}
    storage.write_json(run.path("work", "diary", "1.json"), start | {"status": "failed"})
    one = {"documents": 3, "not_measured": 0, "kept": 1, "bins": {"40": 3}, "buckets": {evil: {evil: [3, 3, 3, 3]}}}
    found = {"labels": {evil: {evil: [1, 2, 3, 4]}}, "distributions": {f"{evil}.{evil}": {evil: one}}}
    storage.write_json(run.decisions, found)
    config = {"algorithm": evil, "eos_token": evil, "extra_special_tokens": [evil]}
    storage.write_json(
        storage.join(run.tokenizer, "tokenizer.card.json"), {"identity": {"settings": {"config": config}}}
    )
    rates = dict.fromkeys(("tokens_per_word", "tokens_per_character", "bytes_per_token", "unknown_rate"), 1.0)
    row: dict[str, Any] = {"source": evil, "lang": evil} | figures | rates
    storage.write_json(storage.join(run.tokenizer, "fertility.json"), [row])
    counts = dict.fromkeys(("stored", "trained", "repeats", "tokens"), 1)
    summary = {
        "headline": {evil: 1.0},
        "tokens": {evil: evil},
        "vocabulary": {evil: {"text": 1, "unknown": 0, "byte_fallback": 0}},
        "samples": [{"source": evil, "left_out": {evil: 1}} | counts],
    }
    storage.write_json(run.path("summary.json"), summary)
    storage.write_json(run.path("sample.json"), [dict.fromkeys(("prompt", "text", "checkpoint"), evil)])
    row = {"step": 1, "loss": 3.0, "tasks": {evil: {"accuracy": 0.5, "chance": 0.5}}}
    row |= {"data_wait_s": {evil: 1.0}, "data_wait_reason": evil, "forward_s": 0.1}
    storage.write_bytes(run.path("metrics.jsonl"), (json.dumps(row) + "\n").encode())
    storage.write_bytes(run.config, yaml.safe_dump({"run": {"name": clean}}, allow_unicode=True).encode())
    return build_report(run, evil)


HOSTILE = st.sampled_from(
    ["<script>", "</pre>", "' onload='x", '" style="x', "<!--", "]]>", "&#60;b", "\u202e", "\ud800", "\0"]
)


@functools.cache
def _harmless() -> _Tags:
    with tempfile.TemporaryDirectory() as place:
        return _Tags(_hostile_run(Path(place), "e"))


@settings(max_examples=8, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(HOSTILE | st.text(st.characters(exclude_categories=()), max_size=8), max_size=8))
def test_no_name_text_or_error_from_outside_makes_a_tag_or_an_attribute_anywhere_on_the_page(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        page = _hostile_run(Path(place), "e" + "".join(parts))
    page.encode()  # lone surrogates are not written as such
    assert not set(page) & set("\0\u202e\u2066\u200f")
    made = _Tags(page)
    assert made.tags == _harmless().tags
    assert made.links == _harmless().links


def test_tags_in_a_removed_document_or_its_name_are_shown_not_run(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    evil = "</pre></details><script>alert(1)</script>"
    _curated(run, 1, 1, reason=f"own.{evil}", text=evil)
    page = build_report(run, "run")
    assert "<script" not in page
    assert page.count(html.escape(evil, quote=True)) == 2  # the rule's name and the text


def test_removed_documents_without_work_have_names_and_no_text(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    _curated(run, 1, 1)
    Path(run.tagged(0)).unlink()
    page = build_report(run, "run")
    assert "<b>d0</b>" in page
    assert "work/ was deleted" in page


def test_a_damaged_part_costs_its_examples_only(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    _curated(run, 2, 1)
    Path(run.removed(0)).write_bytes(b"PAR1 nothing")
    page = build_report(run, "run")
    assert "A short text 4294967296" in page
    assert "Not read: 1 parts, the first: " in page
    assert "damaged Parquet file" in page


def test_quarantine_is_shown_with_how_records_begin(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    entry = {"source": "web", "file": "in.jsonl", "row": 7, "byte_offset": 9, "kind": "bad_json", "error": "no <value>"}
    lines = [json.dumps(entry | {"row": row, "excerpt": "<i>" + "x" * 2000}) for row in range(100)]
    storage.write_bytes(run.quarantine(0), "\n".join([*lines, ""]).encode())
    page = build_report(run, "run")
    assert "<summary>bad_json</summary>" in page
    assert page.count("no &lt;value&gt;") == PER_RULE
    assert "record 0</span>" in page and "&lt;i&gt;xxx" in page and "<i>" not in page


def test_the_tokenizer_has_a_table(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    config = {"algorithm": "bpe", "vocab_size": 4096, "path": None, "eos_token": "<|end|>"}
    storage.write_json(
        storage.join(run.tokenizer, "tokenizer.card.json"), {"identity": {"settings": {"config": config}}}
    )
    row = {"source": "zh<b>", "lang": None, "documents": 3, "bytes": 1234, "tokens_per_word": 1.5}
    row |= {"tokens_per_character": 0.75, "bytes_per_token": 4.0, "unknown_rate": 0.001}
    storage.write_json(storage.join(run.tokenizer, "fertility.json"), [row])
    page = build_report(run, "run")
    assert "<td>vocab size</td><td>4096</td>" in page and "&lt;|end|&gt;" in page
    cells = "</td><td class=n>".join(["3", "1,234", "1.500", "0.750", "4.000", "0.100%"])
    assert f"zh&lt;b&gt;</td><td>–</td><td class=n>{cells}" in page


def test_held_out_bits_a_byte_are_in_the_head(tmp_path: Path) -> None:
    rows = [{"step": n, "loss": 3.0} | ({"heldout_bits_per_byte": 1.2345} if n == 2 else {}) for n in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "<b>1.234</b><span>held-out bits a byte</span>" in page.split("<nav")[0]
