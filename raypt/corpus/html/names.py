"""Names that kernels know: elements with their kind, and words in class names and ids with what they hint at.

Kernels compare names by hash: `name_hash` (FNV-1a, 64 bits) of the lower-case ASCII name.
"""

from dataclasses import dataclass

import numpy as np

FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3


def name_hash(name: str) -> int:
    """64-bit FNV-1a of a name, as the kernels compute it."""
    value = FNV_OFFSET
    for byte in name.lower().encode():
        value = ((value ^ byte) * FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value


@dataclass(frozen=True)
class NameTable:
    """Open-addressing table from a name's hash to a value: keys uint64[2^k], values uint32[2^k], 0 = empty slot."""

    keys: np.ndarray
    values: np.ndarray


def name_table(values: dict[str, int]) -> NameTable:
    size = 64
    while size < 4 * len(values):
        size *= 2
    keys, out = np.zeros(size, np.uint64), np.zeros(size, np.uint32)
    for name, value in values.items():
        h = name_hash(name)
        slot = h & (size - 1)
        while keys[slot]:
            assert int(keys[slot]) != h, name
            slot = (slot + 1) & (size - 1)
        keys[slot], out[slot] = h, value
    return NameTable(keys, out)


# --- elements --------------------------------------------------------------------------------------------------------

BLOCK = 1 << 8  # begins and ends a line
VOID = 1 << 9  # has no end tag
RAW = 1 << 10  # its content is not markup
NO_TEXT = 1 << 11  # what is in it is never text of the page
CONTROL = 1 << 12  # part of a form that is operated, not read
HEADING = 1 << 13
INLINE_ONLY = 1 << 14  # cannot hold a block: a chain of them is no layout
PARAGRAPH = 1 << 15  # text in it is meant as running text
LIST = 1 << 16
CELL = 1 << 17
TAG_MASK = 0xFF

_KINDS = {
    "a": INLINE_ONLY,
    "abbr": INLINE_ONLY,
    "address": BLOCK,
    "annotation": NO_TEXT,
    "annotation-xml": NO_TEXT,
    "applet": NO_TEXT,
    "area": VOID,
    "article": BLOCK,
    "aside": BLOCK,
    "audio": NO_TEXT,
    "b": INLINE_ONLY,
    "base": VOID,
    "blockquote": BLOCK | PARAGRAPH,
    "body": BLOCK,
    "br": VOID,
    "button": CONTROL,
    "canvas": NO_TEXT,
    "caption": BLOCK | PARAGRAPH,
    "center": BLOCK,
    "code": INLINE_ONLY,
    "col": VOID,
    "colgroup": BLOCK,
    "datalist": CONTROL,
    "dd": BLOCK | PARAGRAPH,
    "del": 0,
    "details": BLOCK,
    "dialog": BLOCK,
    "dir": BLOCK | LIST,
    "div": BLOCK,
    "dl": BLOCK,
    "dt": BLOCK | PARAGRAPH,
    "em": INLINE_ONLY,
    "embed": VOID | NO_TEXT,
    "fieldset": BLOCK,
    "figcaption": BLOCK | PARAGRAPH,
    "figure": BLOCK,
    "font": INLINE_ONLY,
    "footer": BLOCK,
    "form": BLOCK,
    "frame": VOID | NO_TEXT,
    "frameset": BLOCK,
    "h1": BLOCK | HEADING,
    "h2": BLOCK | HEADING,
    "h3": BLOCK | HEADING,
    "h4": BLOCK | HEADING,
    "h5": BLOCK | HEADING,
    "h6": BLOCK | HEADING,
    "head": BLOCK | NO_TEXT,
    "header": BLOCK,
    "hgroup": BLOCK,
    "hr": BLOCK | VOID,
    "html": BLOCK,
    "i": INLINE_ONLY,
    "iframe": RAW | NO_TEXT,
    "img": VOID,
    "input": VOID | CONTROL,
    "ins": 0,
    "kbd": INLINE_ONLY,
    "label": CONTROL,
    "legend": BLOCK,
    "li": BLOCK | PARAGRAPH,
    "link": VOID,
    "main": BLOCK,
    "map": NO_TEXT,
    "mark": INLINE_ONLY,
    "math": 0,
    "menu": BLOCK | LIST,
    "meta": VOID,
    "nav": BLOCK,
    "nobr": INLINE_ONLY,
    "noembed": RAW | NO_TEXT,
    "noframes": RAW | NO_TEXT,
    "noscript": NO_TEXT,
    "object": NO_TEXT,
    "ol": BLOCK | LIST,
    "optgroup": CONTROL,
    "option": CONTROL,
    "output": CONTROL,
    "p": BLOCK | PARAGRAPH,
    "param": VOID,
    "picture": 0,
    "plaintext": RAW | BLOCK,
    "pre": BLOCK | PARAGRAPH,
    "progress": CONTROL,
    "q": INLINE_ONLY,
    "rb": INLINE_ONLY,
    "rp": INLINE_ONLY,
    "rt": INLINE_ONLY,
    "rtc": INLINE_ONLY,
    "ruby": INLINE_ONLY,
    "s": INLINE_ONLY,
    "samp": INLINE_ONLY,
    "script": RAW | NO_TEXT,
    "section": BLOCK,
    "select": CONTROL,
    "small": INLINE_ONLY,
    "source": VOID,
    "span": INLINE_ONLY,
    "strike": INLINE_ONLY,
    "strong": INLINE_ONLY,
    "style": RAW | NO_TEXT,
    "sub": INLINE_ONLY,
    "summary": BLOCK,
    "sup": INLINE_ONLY,
    "svg": NO_TEXT,
    "table": BLOCK,
    "tbody": BLOCK,
    "td": BLOCK | CELL | PARAGRAPH,
    "template": NO_TEXT,
    "textarea": CONTROL,
    "tfoot": BLOCK,
    "th": BLOCK | CELL | PARAGRAPH,
    "thead": BLOCK,
    "time": INLINE_ONLY,
    "title": NO_TEXT,
    "tr": BLOCK,
    "track": VOID,
    "u": INLINE_ONLY,
    "ul": BLOCK | LIST,
    "var": INLINE_ONLY,
    "video": NO_TEXT,
    "wbr": VOID,
    "xmp": RAW | BLOCK,
}
TEXT, OTHER = 0, 1
"""Numbers of text nodes, and of elements that are not listed."""
TAGS = {name: number for number, name in enumerate(_KINDS, start=2)}
"""Number of each known element."""


def numbers(elements: str) -> tuple[int, ...]:
    """Numbers of the elements whose names stand between blanks."""
    return tuple(TAGS[name] for name in elements.split())


ELEMENTS = name_table({name: TAGS[name] | kind for name, kind in _KINDS.items()})
"""Value: number and kind."""

# --- words of class names and ids ------------------------------------------------------------------------------------

NAVIGATION = 1 << 0
FOOTER = 1 << 1
SIDE = 1 << 2  # beside the text: sidebars, related pages, teasers
SOCIAL = 1 << 3
COMMENTS = 1 << 4
ADVERT = 1 << 5
OVERLAY = 1 << 6  # consent, subscriptions, dialogs
HEAD = 1 << 7  # the page's own head: banner, masthead
MAIN = 1 << 8
BODY = 1 << 9  # hints at the text of an article
HIDDEN = 1 << 10
MATH_ALT = 1 << 11  # an image whose alt text is LaTeX
META = 1 << 13  # tags, bylines: kept within articles
SCREEN_READER = 1 << 14
CAPTION = 1 << 15
TOPIC = 1 << 19  # what the text is about, whatever words it is made of
CODE = 1 << 20  # holds source code
NOISE = 1 << 21  # line numbers, edit links: never text

WHOLE = 1 << 31  # counts as a whole class name or id only, not as a part of one

_WORDS = {
    NAVIGATION: "nav navbar navigation navi =menu menubar submenu megamenu mainmenu breadcrumb breadcrumbs pagination "
    "pager toolbar sitemap skiplink skiplinks pagenav topnav subnav sidenav navbox =dropdown dropdown-menu =toc",
    FOOTER: "footer colophon =foot bottombar siteinfo imprint site-info",
    SIDE: "sidebar sidebars related recommended recommendations recommendation teaser teasers promo promobox =widget "
    "rightcol leftcol trending mostread readmore outbrain taboola upsell suggested crosslinks =aside =rail "
    "most-read most-popular read-next more-from you-might-like also-like author-box "
    "author-bio author-info about-author authorbox infobox-author",
    SOCIAL: "share sharing sharebar social socials addthis sharethis shariff socialmedia sharedaddy "
    "follow-us sharebuttons",
    COMMENTS: "comment comments disqus =respond commentlist kommentar kommentare comentarios commentaires comment-list "
    "comment-section comment-respond comments-area",
    ADVERT: "=ad ads advert advertisement advertising adsense adslot adbox adunit =banner sponsor sponsored sponsors "
    "=dfp =werbung =anzeige doubleclick ad-slot ad-container ad-wrapper ad-unit",
    OVERLAY: "cookie cookies consent gdpr modal popup overlay lightbox newsletter =subscribe signup =login "
    "==signin =toast cookiebar",
    HEAD: "masthead sitehead siteheader =pagehead topbar site-header =header =banner",
    MAIN: "=main maincontent main-content",
    BODY: "=article =content entry post story body text =main articlebody storytext articletext postbody postcontent "
    "maincontent richtext prose markdown =copy bodytext article-body article-content main-content",
    HIDDEN: "=hidden =hide =invisible d-none =noprint display-none",
    MATH_ALT: "=mwe-math-fallback-image-inline =mwe-math-fallback-image-display =tex =latex =ql-img-inline-formula "
    "=ql-img-displayed-equation",
    META: "=tags =byline =author =meta =taglist",
    SCREEN_READER: "sr-only screen-reader-text visually-hidden visuallyhidden =screenreader =sr",
    CODE: "=code =highlight sourcecode codehilite prettyprint programlisting syntaxhighlighter =screen listing "
    "=literal-block =snippet codeblock code-block",
    NOISE: "linenos lineno linenodiv linenumber headerlink mw-editsection viewcode-link blob-num =gutter anchorjs-link",
    TOPIC: "=related-work =related-works =relatedwork =related-literature =related-research =sec-related-work",
    CAPTION: "caption =wp-caption-text figcaption bildunterschrift",
}


def _word_values() -> dict[str, int]:
    values: dict[str, int] = {}
    for flag, words in _WORDS.items():
        for word in words.split():
            name = word.removeprefix("=")
            # A name with a hyphen is never a run of letters.
            values[name] = values.get(name, 0) | flag | (WHOLE if name != word else 0)
    return values


WORDS = name_table(_word_values())
"""Value: the flags above. Looked up for each class name, and for each run of letters in it."""
