"""Every data file that is shipped is named where the licences are."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "raypt" / "curation" / "assets"
SHIPPED = sorted(path.name for path in ASSETS.iterdir() if path.name != "README.md")


@pytest.mark.parametrize("place", [ASSETS / "README.md", ROOT / ".github" / "SECURITY.md"], ids=lambda path: path.name)
@pytest.mark.parametrize("name", SHIPPED)
def test_a_data_file_is_named_with_its_licence(name: str, place: Path) -> None:
    assert f"`{name}`" in place.read_text()


def test_data_files_of_the_package_lie_in_one_place() -> None:
    kinds = {".py", ".md", ".pyc"}
    other = [path for path in (ROOT / "raypt").rglob("*") if path.is_file() and path.suffix not in kinds]
    assert sorted(path.name for path in other) == SHIPPED
