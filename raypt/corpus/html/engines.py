"""Extractors to choose from (`corpus.html.engine`): raypt's own, resiliparse's, trafilatura's, and their union."""

import re
from typing import Any

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from raypt.corpus.config import HtmlConfig
from raypt.corpus.html.extract import extract, parse, with_title
from raypt.corpus.html.scan import Nodes

MAX_DEPTH = 2000
"""Levels of nesting above which all text of a page is taken with the engine resiliparse: its search for main content
takes time quadratic in the depth (5 s at 16,000). Browsers stop at 512."""

_JOINER = "\u2060"
_ALONE = re.compile(r">(\s*)([\u0800-\uffff])(\s*)(?=<)")


def text_of(html: str, config: HtmlConfig) -> str:
    """The text of a page as `config` asks for it."""
    if config.engine == "raypt":
        text = extract(html, config)
    elif config.engine == "resiliparse":
        text = resiliparse_text(html, config)
    elif config.engine == "trafilatura":
        text = trafilatura_text(html, config)
    else:
        found = trafilatura_text(html, config, strict=False)
        text = union([extract(html, config), resiliparse_text(html, config), found])
    return text if config.preserve_formatting else " ".join(text.split())


def resiliparse_text(html: str, config: HtmlConfig) -> str:
    """Text by resiliparse's own rules, as DCLM and Dolma 3 took it, but for what they lose by mistake: its search for
    main content takes any text of one three-byte character (是, —, €) for an icon, so a word joiner stands after it
    meanwhile.
    """
    page, title = parse(html, config.skip)
    main = config.main_content and _depth(page) <= MAX_DEPTH
    if main:
        page = _ALONE.sub(rf">\1\2{_JOINER}\3", page)
    text = extract_plain_text(
        HTMLTree.parse(page),
        main_content=main,
        preserve_formatting=config.preserve_formatting,
        alt_texts=False,
        links=config.links,
        comments=config.comments,
    )
    text = text.replace(_JOINER, "") if main else text
    return with_title(text, title) if config.title else text


def trafilatura_text(html: str, config: HtmlConfig, *, strict: bool = True) -> str:
    """Text by trafilatura's rules (extra `trafilatura`).

    `strict`: with what datatrove asks for, FineWeb's code (pipeline/extractors/trafilatura.py): rather too little text
    than too much, and no passage that was there more than twice. Trafilatura remembers passages of all pages that its
    process has read; here those of the page alone, since text may not depend on who read what before.
    """
    import trafilatura
    from trafilatura.deduplication import LRU_TEST

    page, title = parse(html, config.skip)
    LRU_TEST.clear()
    options: dict[str, Any] = {
        "include_comments": config.comments,
        "include_tables": config.tables == "pipes",
        "include_links": config.links,
        "favor_precision": strict,
        "deduplicate": strict,
    }
    text = trafilatura.extract(page, **options) or ""
    return with_title(text, title) if config.title else text


def union(texts: list[str]) -> str:
    """Every line that one of the texts has, once, where it stands there: the first text's lines, and each other text's
    further lines after the line that they follow in it."""
    lines = texts[0].split("\n")
    for text in texts[1:]:
        known = {_key(line): i for i, line in enumerate(lines)}
        joined = _key("".join(lines))
        further: dict[int, list[str]] = {}
        after = -1
        for line in text.split("\n"):
            key = _key(line)
            if not key:
                continue
            if key in known:
                after = known[key]
            elif key not in joined:
                further.setdefault(after, []).append(line.strip())
                known[key] = after
        merged = further.get(-1, [])
        for i, line in enumerate(lines):
            merged.append(line)
            merged.extend(further.get(i, []))
        lines = merged
    return "\n".join(lines).strip()


def _key(line: str) -> str:
    """What two extractors have in common of a line: its letters and digits."""
    return "".join(c for c in line if c.isalnum())


def _depth(page: str) -> int:
    """Levels of nesting of a serialised page."""
    nodes = Nodes()
    nodes.read(page.encode("utf-8", "replace"))
    return nodes.depth()
