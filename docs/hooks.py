"""The site's page of all configuration keys, made from the code when the site is built, and links out of docs/."""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
README = "](../README.md"
ELSEWHERE = re.compile(r"\[`?([^]`]+)`?\]\((?:\.\./)+((?:raypt|cluster|jobs|tests|\.github)/[^)#]*)[^)]*\)")


def configuration() -> str:
    """Every key of the main job's configuration with its default and what it means, as Markdown."""
    from raypt.config_help import help_text
    from raypt.run.config import RunConfig

    return f"# Configuration\n\nThe keys of `raypt pretrain` and its like.\n\n```text\n{help_text(RunConfig)}\n```\n"


def on_files(files: Any, config: Any) -> Any:
    """Add the generated page."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "configuration.md", content=configuration()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The README is not part of the site: its place there is the first page. Of other files of the repository, the site
    has the names."""
    markdown = markdown.replace(README + "#on-a-cluster)", "](how-to.md#run-on-a-cluster)").replace(
        README, "](index.md"
    )
    return ELSEWHERE.sub(r"\1 (`\2`)", markdown)
