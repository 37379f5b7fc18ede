"""raypt.curation.quality.report: what was measured, for the terminal and as a page."""

from pathlib import Path

import pyarrow as pa
import pytest

from raypt.curation.quality.config import QualityConfig
from raypt.curation.quality.model import QualityModel
from raypt.curation.quality.report import summary, write_report
from raypt.curation.quality.train import train_quality


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> QualityModel:
    good = [f"chapter {i} tells how the garden was planted and who walked there in spring" for i in range(150)]
    bad = [f"click {i} here | cheap | login | buy | share | menu | cookies" for i in range(150)]
    lang = pa.array(["en"] * 75 + ["<b>x"] * 75)
    tables = (pa.table({"text": t, "lang": lang, "source": ["s"] * 150}) for t in (good, bad))
    return train_quality(*tables, QualityConfig(epochs=2, min_count=1), str(tmp_path_factory.mktemp("q") / "m"), 1)


def test_the_summary_names_every_language_and_source_with_its_figures(model: QualityModel) -> None:
    text = summary(model.card)
    assert model.card.fingerprint in text
    for name in ("language en", "language <b>x", "source s", "lang en", "p50"):
        assert name in text


def test_the_page_is_self_contained_and_escapes_names(model: QualityModel, tmp_path: Path) -> None:
    page = Path(write_report(model.card, str(tmp_path))).read_text()
    assert "Calibration on held-out documents" in page and page.count("<svg") == 4  # two, each for two widths
    assert "<b>x" not in page and "&lt;b&gt;x" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page
