"""raypt.curation.page: what curation shows in the report."""

from raypt.curation.page import quality_section, split_line


def test_the_split_is_told_with_what_it_could_not_keep_apart() -> None:
    split = {"texts": 1200, "hosts": 70, "without_host": 0, "in_big_hosts": 600, "in_big_groups": 0}
    assert split_line(split).startswith("Held out of 1,200 texts by near copies and 70 hosts; 600 are of hosts too big")
    assert "have no host" not in split_line(split)
    assert split_line(split) in quality_section({"metrics": {"split": split}}, [], None)


def test_the_percentile_that_decides_is_shown_with_its_interval() -> None:
    of = {"documents": 100, "scores": [p / 100 for p in range(101)]}
    card = {"metrics": {}, "percentiles": {"all": {"": of}, "lang": {"en": of, "fr": of}}}
    shown = quality_section(card, [], 0.1, percentile=10, languages=["fr"])
    assert "percentile 10" in shown and "0.1000" in shown and shown.count("6–18 %") == 2  # all and fr
    assert "percentile 10" not in quality_section(card, [], None)
