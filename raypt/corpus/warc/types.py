"""What a body is: a page, text, or nothing to read, by its media type or, without one, by its first bytes.

The kinds of what is not read are a closed list: they become reasons in the ledger.
"""

import re

HTML, TEXT = "html", "text"

_KINDS = {
    "image": "warc_image",
    "audio": "warc_media",
    "video": "warc_media",
    "font": "warc_font",
    "application/pdf": "warc_pdf",
    "application/postscript": "warc_pdf",
    "application/json": "warc_json",
    "application/ld+json": "warc_json",
    "application/javascript": "warc_script",
    "application/x-javascript": "warc_script",
    "application/ecmascript": "warc_script",
    "text/javascript": "warc_script",
    "text/css": "warc_script",
    "application/zip": "warc_archive",
    "application/gzip": "warc_archive",
    "application/x-gzip": "warc_archive",
    "application/x-tar": "warc_archive",
    "application/x-rar-compressed": "warc_archive",
    "application/x-7z-compressed": "warc_archive",
    "application/x-shockwave-flash": "warc_media",
    "application/msword": "warc_office",
    "application/rtf": "warc_office",
    "application/epub+zip": "warc_office",
}
_PREFIXES = (
    ("application/vnd.openxmlformats", "warc_office"),
    ("application/vnd.oasis", "warc_office"),
    ("application/vnd.ms-", "warc_office"),
    ("application/font", "warc_font"),
    ("application/x-font", "warc_font"),
)
_PAGES = ("text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml")
_UNKNOWN = ("", "unknown/unknown", "application/unknown", "*/*", "application/octet-stream", "binary/octet-stream")
_TEXTS = ("text/plain", "text/markdown", "text/x-markdown")

# MIME Sniffing Standard, 7.1 and 6: what a browser takes for a page, and the signatures of other types.
_PAGE = re.compile(
    rb"[\t\n\f\r ]*(?:<!--|<(?:!DOCTYPE HTML|HTML|HEAD|SCRIPT|IFRAME|"
    rb"H1|DIV|FONT|TABLE|A|STYLE|TITLE|BODY|BR|B|P|META|LINK)[ >])",
    re.I,
)
_XML = re.compile(rb"[\t\n\f\r ]*<\?xml", re.I)
_XHTML = re.compile(rb"<html[\s>]|<!DOCTYPE html", re.I)
_SIGNATURES = (
    (b"%PDF-", "warc_pdf"),
    (b"%!PS-Adobe-", "warc_pdf"),
    (b"GIF8", "warc_image"),
    (b"\x89PNG\r\n\x1a\n", "warc_image"),
    (b"\xff\xd8\xff", "warc_image"),
    (b"BM", "warc_image"),
    (b"RIFF", "warc_media"),
    (b"\x00\x00\x01\x00", "warc_image"),
    (b"OggS\x00", "warc_media"),
    (b"ID3", "warc_media"),
    (b"\x1aE\xdf\xa3", "warc_media"),
    (b"PK\x03\x04", "warc_archive"),
    (b"\x1f\x8b\x08", "warc_archive"),
    (b"Rar!", "warc_archive"),
    (b"7z\xbc\xaf", "warc_archive"),
    (b"wOFF", "warc_font"),
    (b"wOF2", "warc_font"),
)
_TEXT_BOMS = (b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")
KINDS = frozenset(
    (
        *_KINDS.values(),
        *(kind for _, kind in (*_PREFIXES, *_SIGNATURES)),
        "warc_xml",
        "warc_other_text",
        "warc_other_media",
    )
)
"""All kinds of bodies that are not read."""


def may_be_read(media_type: str) -> bool:
    """Whether a body of this type can be a page or a text: false where its type alone says that it is none."""
    return _is_unknown(media_type) or media_type in (*_PAGES, *_TEXTS) or media_type.endswith(("/xml", "+xml"))


def _is_unknown(media_type: str) -> bool:
    return media_type in _UNKNOWN or "/" not in media_type


def type_of(media_type: str, body: bytes) -> str:
    """HTML, TEXT, or the kind of a body that is not read."""
    if _is_unknown(media_type):
        return sniff(body)
    if media_type in _PAGES:
        return HTML
    if media_type in _TEXTS:
        return TEXT
    known = _KINDS.get(media_type) or _KINDS.get(media_type.partition("/")[0])
    if known:
        return known
    for prefix, kind in _PREFIXES:
        if media_type.startswith(prefix):
            return kind
    if media_type.endswith(("/xml", "+xml")):
        return HTML if _XML.match(body) and _XHTML.search(body[:2048]) else "warc_xml"
    return "warc_other_text" if media_type.startswith("text/") else "warc_other_media"


def sniff(body: bytes) -> str:
    """What a body without a type is, by its first bytes."""
    head = body[:1445]
    if head.startswith(_TEXT_BOMS):
        head = head.lstrip(b"\xef\xbb\xbf")
        return HTML if _PAGE.match(head) or _PAGE.match(head[2:].replace(b"\0", b"")) else TEXT
    if _PAGE.match(head):
        return HTML
    if _XML.match(head):
        return HTML if _XHTML.search(body[:2048]) else "warc_xml"
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[4:8] == b"ftyp":
        return "warc_media"
    # MIME Sniffing Standard, 4.4: these bytes are in no text.
    return "warc_other_media" if re.search(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]", head) else TEXT
