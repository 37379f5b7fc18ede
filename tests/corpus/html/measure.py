"""How good and how fast the extractors are: `python -m tests.corpus.html.measure [--shared DIRECTORY] [--worst N]`.

Quality is word F1 against gold (a word of Chinese or Japanese is a character), mean over pages, on two sets:

- `pages/`: pages written for the purpose, each with its text by hand;
- the shared pages, real ones: gold is the page's one h1 and the visible text of what the page itself marks as its text
  (`own_container`), without boxes and lists that are links alone.

Speed is bytes of HTML in a CPU second on the shared pages, in one process, each engine after a warm-up.
"""

import argparse
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.parse.html import DOMNode, ElementNode, HTMLTree, NodeType

from raypt.corpus.config import HtmlConfig
from raypt.corpus.formats.charset import decode
from raypt.corpus.formats.html import html_to_text

PAGES = Path(__file__).parent / "pages"
SHARED = Path(__file__).resolve().parents[4] / "shared" / "corpora" / "web" / "pages_html_small.dev.warc.gz"
ENGINES = ("raypt", "resiliparse", "trafilatura")

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_WIDE = re.compile(r"[\u3001-\u30ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff5e\U00020000-\U0003ffff]")


@dataclass(frozen=True)
class GoldPage:
    """A page and the text that an extractor should give."""

    name: str
    html: bytes
    gold: str


@dataclass(frozen=True)
class Score:
    """Shares of words: of the gold that are found, of what is found that are in the gold."""

    recall: float
    precision: float

    @property
    def f1(self) -> float:
        both = self.recall + self.precision
        return 2 * self.recall * self.precision / both if both else 0.0


def words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.casefold()))


def score(gold: str, text: str) -> Score:
    """Of the words as multisets."""
    wanted, found = words(gold), words(text)
    common = (wanted & found).total()
    return Score(common / max(1, wanted.total()), common / max(1, found.total()) if found else float(not wanted))


def wide_lost(gold: str, text: str) -> Counter[str]:
    """Chinese and Japanese characters and punctuation of the gold that the text lacks."""
    return Counter(_WIDE.findall(gold)) - Counter(_WIDE.findall(text))


def hand_made() -> list[GoldPage]:
    """The pages of `pages/`: NAME.html in the encoding that it says, NAME.txt its text."""
    return [
        GoldPage(path.stem, path.read_bytes(), path.with_suffix(".txt").read_text(encoding="utf-8"))
        for path in sorted(PAGES.glob("*.html"))
    ]


# --- what real pages mark as their text ------------------------------------------------------------------------------

_CONTAINERS = (
    '[itemprop~="articleBody"]',
    ".entry-content, .post-content, .article-content, .article-body, .article__body, .articlebody, .article-text, "
    ".story-body, .post-body, .post__content, .entry__content, .td-post-content, .field--name-body, .mw-parser-output, "
    ".markdown-body, .news-text, .content-body, .body-copy, #article-body, #mw-content-text, .StandardArticleBody_body",
    "article",
    'main, [role="main"]',
)
"""By how plainly they say that here is the text, and no more than it."""
_NOT_VISIBLE = {"script", "style", "noscript", "template", "head", "iframe", "svg", "button", "select", "option"} | {
    "textarea", "input", "form", "nav", "object", "video", "audio", "canvas",
}  # fmt: skip
_BOX = frozenset(["div", "ul", "ol", "section", "dl"])
_LINE = _BOX | {"p", "li", "h1", "h2", "h3", "h4", "h5", "h6", "td", "th", "tr", "br", "blockquote", "pre", "dt", "dd"}
MIN_CHARACTERS, MIN_SHARE = 600, 0.3
LINKS_ALONE = 0.8
"""Share of a box's characters in links above which it is links alone."""


def _visible(node: DOMNode, out: list[str], in_link: bool = False) -> tuple[int, int]:
    """Text of a node, without what is no text, hides or is links alone; (its characters, those in links)."""
    all_characters = all_linked = 0
    following = node.first_child
    while following is not None:
        child, following = following, following.next
        if child.type == NodeType.TEXT:
            text = child.value or ""
            out.append(text.replace("\xad", ""))
            characters = len("".join(text.split()))
            linked = characters if in_link else 0
        elif isinstance(child, ElementNode) and child.tag not in _NOT_VISIBLE:
            if "none" in (child.getattr("style") or "") or child.hasattr("hidden"):
                continue
            before = len(out)
            line = ["\n"] if child.tag in _LINE else []
            out += line
            characters, linked = _visible(child, out, in_link or child.tag == "a")
            out += line
            if child.tag in _BOX and linked > LINKS_ALONE * characters:
                del out[before:]
        else:
            continue
        all_characters += characters
        all_linked += linked
    return all_characters, all_linked


def _text(node: DOMNode) -> str:
    parts: list[str] = []
    _visible(node, parts)
    return re.sub(r"[ \t]*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", "".join(parts))).strip()


def own_container(page: str) -> str | None:
    """The visible text of the one element that a page marks as its text; None where none, or several, are so marked."""
    tree = HTMLTree.parse(page)
    body = tree.body
    if body is None:
        return None
    whole = len(_text(body))
    for selector in _CONTAINERS:
        texts = [text for e in body.query_selector_all(selector) if len(text := _text(e)) >= MIN_CHARACTERS]
        if len(texts) == 1 and len(texts[0]) >= MIN_SHARE * whole:
            titles = [_text(h1) for h1 in body.query_selector_all("h1")]
            return f"{titles[0]}\n{texts[0]}" if len(titles) == 1 and titles[0] not in texts[0] else texts[0]
        if texts:
            return None
    return None


def real_pages(archive: Path = SHARED) -> list[GoldPage]:
    """The shared pages that have a container of their own."""
    pages = []
    with archive.open("rb") as f:
        for record in ArchiveIterator(f, record_types=WarcRecordType.response):
            data = record.reader.read()
            gold = own_container(decode(data))
            if gold is not None:
                pages.append(GoldPage(record.headers["WARC-Target-URI"], data, gold))
    return pages


# --- measuring -------------------------------------------------------------------------------------------------------


def extractor(engine: str) -> Callable[[bytes], str]:
    config = HtmlConfig.model_validate({"engine": engine})
    return lambda page: html_to_text(page, None, config)


def mean_f1(pages: Iterable[GoldPage], extract: Callable[[bytes], str]) -> tuple[float, list[tuple[float, Score, str]]]:
    """(mean F1, (F1, score, name) of the pages from the worst up)."""
    scores = [(page, score(page.gold, extract(page.html))) for page in pages]
    rows = sorted(((s.f1, s, page.name) for page, s in scores), key=lambda row: row[0])
    return sum(f1 for f1, _, _ in rows) / max(1, len(rows)), rows


def speed(pages: list[bytes], extract: Callable[[bytes], str], rounds: int) -> float:
    """Bytes in a CPU second, of the best round."""
    for page in pages[:20]:
        extract(page)
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for page in pages:
            extract(page)
        best = min(best, time.process_time() - start)
    return sum(map(len, pages)) / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--worst", type=int, default=0, help="also name the worst pages of raypt's")
    parser.add_argument("--engines", default=",".join(ENGINES))
    args = parser.parse_args()
    sets = {"hand-made": hand_made()}
    if args.shared.exists():
        sets["shared"] = real_pages(args.shared)
    engines = args.engines.split(",")
    for name, pages in sets.items():
        for engine in engines:
            mean, rows = mean_f1(pages, extractor(engine))
            recall, precision = (sum(getattr(s, a) for _, s, _ in rows) / len(rows) for a in ("recall", "precision"))
            extract = extractor(engine)
            wide = [page for page in pages if _WIDE.search(page.gold)]
            lost = sum((wide_lost(page.gold, extract(page.html)).total() for page in wide), start=0)
            print(
                f"{name:10} {engine:12} {len(pages)} pages: word F1 {mean:.4f} (recall {recall:.4f}, precision "
                f"{precision:.4f}); {lost} Chinese or Japanese characters lost on {len(wide)} pages"
            )
            if args.worst and engine == "raypt":
                for f1, s, page_name in rows[: args.worst]:
                    print(f"    {f1:.3f} recall {s.recall:.3f} precision {s.precision:.3f} {page_name}")
    data = [page.html for page in sets.get("shared", sets["hand-made"])]
    rates = {engine: speed(data, extractor(engine), 3 if engine != "trafilatura" else 1) for engine in engines}
    slowest = rates.get("trafilatura")
    for engine, rate in rates.items():
        times = f", {rate / slowest:.1f} times trafilatura" if slowest else ""
        print(f"speed      {engine:12} {rate / 1e6:.2f} MB of HTML in a CPU second{times}")


if __name__ == "__main__":
    main()
