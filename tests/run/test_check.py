"""What can be known wrong before work starts is told before, all of it at once, and claims nothing."""

import gzip
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from raypt.config_io import load
from raypt.curation.quality.fit import fit
from raypt.curation.quality.model import QualityCard
from raypt.errors import UserError
from raypt.packages import package_version
from raypt.run.check import check
from raypt.run.config import RunConfig


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two sources and an evaluation set of nested records."""
    monkeypatch.chdir(tmp_path)
    for name in ("web", "books"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part-0.jsonl").write_text(json.dumps({"text": f"Some text of the {name}."}) + "\n")
    rows: list[dict[str, Any]] = [
        {
            "id": i,
            "choices": [{"text": f"choice {i} {j}"} for j in range(3)],
            "messages": [{"role": "user", "content": f"问题 {i}"}],
        }
        for i in range(4)
    ]
    with gzip.open(tmp_path / "eval.jsonl.gz", "wt") as f:
        f.write("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


SOURCES = [
    "corpus.sources=[{name: web, paths: web/*.jsonl}, {name: books, paths: books}]",
    "tokens.mixture.weights={web: 2, books: 1}",
]


def told(*overrides: str) -> str:
    with pytest.raises(UserError) as e:
        check(load(RunConfig, None, [*SOURCES, *overrides]))
    return str(e.value)


def test_what_is_right_passes_and_leaves_nothing(here: Path) -> None:
    before = sorted(here.rglob("*"))
    check(load(RunConfig, None, [*SOURCES, "run.dir=deep/er/run"]))
    assert sorted(here.rglob("*")) == before


def test_a_package_that_a_stage_needs_and_is_not_there_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "needs_a_package.py").write_text(
        "from raypt.curation.base import StageSettings\n"
        "class Needs(StageSettings):\n"
        "    stage = 'needs'\n"
        "    def packages(self): return {'no-such-package': 'pip install it'}\n"
    )
    monkeypatch.syspath_prepend(str(here))
    said = told("curation.stages=['needs_a_package:Needs']")
    assert said == "curation.stages: the package no-such-package is needed and not installed here: pip install it"


@pytest.mark.parametrize("engine", ["trafilatura", "union"])
def test_an_extractor_that_is_not_there_is_named_at_start_and_the_configuration_loads(here: Path, engine: str) -> None:
    chosen = f"corpus.html.engine={engine}"
    needed = load(RunConfig, None, [*SOURCES, chosen]).corpus.html.packages()
    assert set(needed) == {"trafilatura", "lxml_html_clean"}
    absent = [name for name in needed if package_version(name) is None]
    if not absent:
        check(load(RunConfig, None, [*SOURCES, chosen]))
        return
    said = told(chosen).splitlines()
    assert said == [
        f"{chosen}: the package {name} is needed and not installed here: pip install 'raypt[trafilatura]'"
        for name in absent
    ]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "tokens.mixture.weights={webb: 1, books: 1}",
            "mixture.weights.webb: no source is named so; did you mean web?",
        ),
        (
            "tokens.mixture.limits={book: {epochs: 2}}",
            "mixture.limits.book: no source is named so; did you mean books?",
        ),
        (
            "tokens.mixture.curriculum=[{at_tokens: 1M, weights: {wiki: 1}}]",
            "tokens.mixture.curriculum[0].weights.wiki: no source is named so. The sources are web, books",
        ),
        ("corpus.sources[1].paths=boks/*.gz", "corpus.sources[1].paths[0]: no file matches 'boks/*.gz'"),
        (
            "corpus.sources[0].paths=[web, s3x://b/c]",
            "corpus.sources[0].paths[1]: s3x://b/c: no file system is known by s3x://",
        ),
        ("corpus.sources[0].paths=eval.*", ""),
        ("run.dir=web/part-0.jsonl/run", "run.dir: "),
        ("run.dir=s4://bucket/run", "run.dir: s4://bucket/run: no file system is known by s4://"),
        ("tokens.tokenizer.path=tok.json", "tokens.tokenizer.path: no file tok.json"),
        ("dedup.contamination.paths=evil.jsonl", "dedup.contamination.paths: evil.jsonl: no such file"),
    ],
)
def test_a_mistake_is_told_with_its_key(here: Path, override: str, said: str) -> None:
    if not said:
        check(load(RunConfig, None, [*SOURCES, override]))
        return
    assert said in told(override)
    assert not (here / "runs").exists()


def test_a_file_of_no_known_format_is_named(here: Path) -> None:
    (here / "web" / "part-1.dat").write_text("a,b")
    assert "corpus.sources[0].format: cannot tell the format of" in told("corpus.sources[0].paths=web/part-1.dat")


def test_a_quality_set_and_a_word_list_are_looked_at_too(here: Path) -> None:
    quality = ["curation.stages=[language, quality, bad_words]", "curation.bad_words.lists={no: ord.txt}"]
    said = told(*quality, "curation.quality.reference=[{name: good, paths: god/*}]")
    assert "curation.quality.reference[0].paths[0]: no file matches 'god/*'" in said
    assert "curation.bad_words.lists.no: no file ord.txt" in said
    check(load(RunConfig, None, [*SOURCES, "curation.bad_words.lists={no: ord.txt}"]))  # the stage is off


def test_all_mistakes_are_told_at_once(here: Path) -> None:
    said = told("tokens.mixture.weights={webb: 1}", "corpus.sources[0].paths=x/*", "run.dir=web/part-0.jsonl")
    assert len(said.splitlines()) == 3


def test_a_name_that_two_sources_would_share_is_ambiguous_in_a_mixture(here: Path) -> None:
    (here / "more").mkdir()
    (here / "more" / "web.jsonl").write_text("{}\n")
    sources = "corpus.sources=[{paths: web/*.jsonl}, {paths: more/web.jsonl}]"
    check(load(RunConfig, None, [sources]))
    said = told(sources, "tokens.mixture.weights={web: 1}")
    assert "tokens.mixture.weights.web: 2 sources would be named 'web' by their paths" in said


def test_a_run_with_a_manifest_does_not_look_for_its_inputs_again(here: Path) -> None:
    run = here / "run"
    run.mkdir()
    (run / "manifest.json").write_text("{}")
    check(load(RunConfig, None, [*SOURCES, "corpus.sources[0].paths=x/*", "run.dir=run"]))


@pytest.mark.parametrize("fields", ["choices.text", "messages[].content", "choices.text,messages.content"])
def test_nested_fields_of_an_evaluation_set_are_found(here: Path, fields: str) -> None:
    named = f"dedup.contamination.fields=[{','.join(repr(f) for f in fields.split(','))}]"
    check(load(RunConfig, None, [*SOURCES, "dedup.contamination.paths=eval.jsonl.gz", named]))


@pytest.mark.parametrize("field", ["choice.text", "choices.txt", "question"])
def test_a_misspelt_field_of_an_evaluation_set_is_told_with_those_there_are(here: Path, field: str) -> None:
    said = told("dedup.contamination.paths=eval.jsonl.gz", f"dedup.contamination.fields=[{field}]")
    assert "eval.jsonl.gz" in said
    assert field in said
    assert "choices[].text, messages[].role, messages[].content" in said


def test_a_mixture_of_languages_that_nothing_finds_is_told(here: Path) -> None:
    by = "tokens.mixture.by=[lang]"
    assert "tokens.mixture.by: lang asks for the language of a document" in told(by, "curation.stages=[]")
    for given in ("curation.stages=[language]", "curation.language.assume=en", "corpus.sources[0].columns={lang: l}"):
        weights = "tokens.mixture.weights=null"
        check(load(RunConfig, None, [*SOURCES, by, "curation.stages=[]", weights, given]))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("language.keep=[en, zh-CN]", "language.keep: .*'zh-CN'; did you mean zh?"),
        ("language.score_min_by_language={zh_Hant: 0.3}", "score_min_by_language: .*'zh_Hant'; did you mean zh?"),
        ("language.keep=[englsh]", "language.keep: .*'englsh'; did you mean en?"),
        ("language.keep=[hin_Latn]", "language.keep: .*'hin_Latn'; did you mean hi?"),
        ("language.keep=[en, English]", "language.keep: en and English are the same language"),
        ("language.keep=[zzzzzz]", r"language.keep: .*'zzzzzz'\. It knows af, als, am, "),
        ("by_language={de-CH: {length: {chars_min: 9}}}", "by_language: .*'de-CH'; did you mean de?"),
    ],
)
def test_a_language_that_the_model_does_not_know_is_told(here: Path, override: str, said: str) -> None:
    assert re.search(said, told("curation.stages=[language, length]", f"curation.{override}"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("{stage: length, when: {lang: [en, German]}}", None),
        ("{stage: length, when: {lang: [en, klingon]}}", "when.lang: the language model has no 'klingon'"),
    ],
)
def test_a_condition_on_a_language_that_no_document_has_is_told(here: Path, override: str, said: str | None) -> None:
    overrides = [f"curation.stages=[language, {override}]"]
    if said is None:
        check(load(RunConfig, None, [*SOURCES, *overrides]))
    else:
        assert said in told(*overrides)


def test_keyword_rules_of_a_language_that_the_model_does_not_know_are_told(here: Path) -> None:
    rules = "curation.keywords.rules={ads: {phrases: [x], languages: [germn]}}"
    assert "keywords.rules.ads.languages: the language model has no 'germn'; did you mean de?" in told(
        "curation.stages=[language, keywords]", rules
    )


ROOTS = "curation.roots"


@pytest.mark.parametrize(
    ("stage", "override", "said"),
    [
        ("roots", f"{ROOTS}.cut_words={{englsh: 25}}", "roots.cut_words: .* no 'englsh'; did you mean en?"),
        ("roots", f"{ROOTS}.stop_words={{frnch: fr.txt}}", "roots.stop_words: .* no 'frnch'"),
        ("roots", f"{ROOTS}.flagged_words={{frnch: fr.txt}}", "roots.flagged_words: .* no 'frnch'"),
        (
            "roots",
            f"{ROOTS}.character_gram_by_language={{germn: 3}}",
            "character_gram_by_language: .* no 'germn'",
        ),
        ("roots", f"{ROOTS}.word_gram_by_language={{germn: 3}}", "roots.word_gram_by_language: .* no 'germn'"),
        ("roots", f"{ROOTS}.pairs=[vi, germn]", "roots.pairs: .* no 'germn'"),
        ("bad_words", "curation.bad_words.allow={germn: [x]}", "bad_words.allow: .* no 'germn'"),
        ("{stage: bad_words@x, settings: {lists: {englsh: x.txt}}}", "", "stages: bad_words@x: lists: .* no 'englsh'"),
        ("{stage: bad_words@x, settings: {lists: {en: x.txt}}}", "", r"stages: bad_words@x: lists\.en: no file x\.txt"),
        (
            "{stage: roots, settings: {cut_words: {en: 9, English: 9}}}",
            "",
            "cut_words: en and English are the same",
        ),
        ("roots", f"{ROOTS}.flagged_words={{en: x.txt}}", r"roots.flagged_words.en: no file x\.txt"),
        ("keywords", "curation.keywords.rules={a: {file: x.txt}}", r"keywords.rules.a.file: no file x\.txt"),
        ("{stage: url@x, settings: {soft_word_files: [x.txt]}}", "", r"url@x: soft_word_files\[0\]: no file x\.txt"),
    ],
)
def test_what_every_turn_of_a_stage_names_is_looked_at(here: Path, stage: str, override: str, said: str) -> None:
    assert re.search(said, told(f"curation.stages=[language, {stage}]", *filter(None, [override])))


ARPA = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<s>\n-0.5\t</s>\n-0.5\tstone\n\n\\end\\\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Some text of the web.\n" * 9000, "does not begin with"),
        ("", "does not begin with"),
        ("x\n" + ARPA, "does not begin with"),
        (ARPA.replace("ngram 1=3", "ngram one"), "its head has the line 'ngram one'"),
        (ARPA.replace("ngram 1=3\n", ""), "announces no n-grams"),
        (ARPA.replace("1-grams", "2-grams"), "announces no n-grams"),
        (ARPA.replace("-0.5\tst", "half\tst"), "its 1-grams hold what is no number"),
        (ARPA.replace("\t", " "), "its 1-grams hold the line '-1 <s>'"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_that_is_no_language_model_is_told(here: Path, content: str, said: str, suffix: str) -> None:
    data = content.encode()
    (here / f"bad.arpa{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    named = f"curation.perplexity.models={{en: bad.arpa{suffix}}}"
    found = told("curation.stages=[language, perplexity]", named)
    assert f"curation.perplexity.models.en: bad.arpa{suffix} is no ARPA file" in found
    assert said in found


def test_a_language_model_passes_and_text_named_gz_does_not(here: Path) -> None:
    (here / "good.arpa").write_text(ARPA)
    (here / "bad.arpa.gz").write_text(ARPA)
    on = "curation.stages=[language, perplexity]"
    check(load(RunConfig, None, [*SOURCES, on, "curation.perplexity.models={en: good.arpa}"]))
    assert "bad.arpa.gz is no ARPA file: it is not" in told(on, "curation.perplexity.models={en: bad.arpa.gz}")


def test_languages_of_defaults_need_not_be_known(here: Path) -> None:
    """A model of ones own may lack Urdu, Vietnamese, Japanese."""
    rows = [f"__label__{code} {word} {i}\n" for i in range(50) for code, word in (("eng", "stone"), ("cmn", "石"))]
    (here / "train.txt").write_text("".join(rows))
    fit(str(here / "train.txt"), str(here / "own.bin"), dim=6, epoch=2, minCount=1)
    stages = ["curation.stages=[language, roots, bad_words]", "curation.roots.cut_words={en: 25}"]
    check(load(RunConfig, None, [*SOURCES, *stages, "curation.language.model=own.bin"]))


def test_a_classifiers_percentiles_of_languages_that_the_model_does_not_know_are_told(here: Path) -> None:
    """A classifier trained under GlotLID has percentiles by its labels, of which lid.176 knows some."""
    own = {"documents": 500, "scores": [i / 100 for i in range(101)]}
    few = {**own, "documents": 3}
    percentiles = {"all": {"": own}, "lang": {"eng_Latn": own, "gom_Latn": own, "zzj_Hani": own, "aaa_Latn": few}}
    card = QualityCard("ref", "words-v1", 4096, "0" * 64, percentiles=percentiles)  # type: ignore[arg-type]
    (here / "good").mkdir()
    (here / "good" / "quality.json").write_text(json.dumps(asdict(card)))
    on = ["curation.stages=[language, {stage: quality, when: {lang: en}}]", "curation.quality.model=good"]
    by_percentile = "curation.quality.threshold.percentile=20"
    assert "percentiles of gom_Latn, zzj_Hani, which the language model has no label for" in told(*on, by_percentile)
    check(load(RunConfig, None, [*SOURCES, *on, by_percentile, "curation.quality.threshold.by_language=false"]))


def test_codes_of_a_model_of_ones_own_are_its_labels(here: Path) -> None:
    rows = [f"__label__{code} {word} {i}\n" for i in range(50) for code, word in (("eng", "stone"), ("cmn", "石"))]
    (here / "train.txt").write_text("".join(rows))
    fit(str(here / "train.txt"), str(here / "own.bin"), dim=6, epoch=2, minCount=1)
    own = ["curation.stages=[language]", "curation.language.model=own.bin"]
    assert "'fr'" in told(*own, "curation.language.keep=[fr]")
    assert "'zh-TW'; did you mean cmn?" in told(*own, "curation.language.keep=[zh-TW]")
    check(load(RunConfig, None, [*SOURCES, *own, "curation.language.keep=[eng, cmn]"]))
    check(load(RunConfig, None, [*SOURCES, *own, "curation.language.keep=[en, Chinese]"]))  # other names of the same
