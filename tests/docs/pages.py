"""The pages of the documentation, and the commands in them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / ".github").glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str = "bash") -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def raypt_commands(page: Path) -> list[list[str]]:
    """`[job, argument, ...]` of each call of raypt, also as a script of jobs/."""
    found = []
    for block in blocks(page):
        for line in re.split(r"\n| && ", block.replace("\\\n", " ")):
            words = shlex.split(line.partition(" > ")[0], comments=True)
            if words[:1] == ["raypt"]:
                found.append(words[1:])
            for i, word in enumerate(words):
                if i and words[i - 1].startswith("python") and (script := re.fullmatch(r"jobs/(\w+)\.py", word)):
                    found.append([script[1].replace("_", "-"), *words[i + 1 :]])
    return found


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub and MkDocs make it."""
    return re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())
