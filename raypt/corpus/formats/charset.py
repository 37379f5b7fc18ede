"""Bytes to text: which character set a page is in, and what its name means (WHATWG Encoding and HTML Standards).

In order: a byte order mark, the label of the HTTP header, the label in the page (`<meta>`, an XML declaration), what
the bytes look like. A label that the bytes contradict is set aside: they have too many mistakes in it, or none in
UTF-8, which other sets meet by chance in a few characters only.
"""

import codecs
import re
from collections.abc import Callable

from resiliparse.parse.encoding import detect_encoding

from raypt.corpus.formats.charset_tables import CODECS, FURTHER, LABELS, OTHERWISE, OTHERWISE_PATTERNS

PRESCAN_BYTES = 16_384
"""Bytes of a page in which a label is looked for (browsers: 1,024, and again until <head> ends)."""
CONTRADICTED = 0.05
"""Share of the characters beyond ASCII that cannot be decoded above which a label is set aside."""

UTF8_CHARACTERS = 8
"""Characters beyond ASCII, all of them UTF-8, that set another label aside. Two bytes of GBK or KS X 1001 are one of
UTF-8 once in 8 times."""

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16be"), (b"\xff\xfe", "utf-16le"))
_LONE = {
    **dict.fromkeys(("big5hkscs", "cp949", "gb18030"), frozenset((0x80, 0xFF))),
    "cp932": frozenset((0x80, 0xA0, 0xFD, 0xFE, 0xFF)),
    "euc_jp": frozenset((*range(0x80, 0x8E), *range(0x90, 0xA1), 0xFF)),
}
"""Codecs of two bytes a character -> bytes from 0x80 on that begin no character."""
_DETECTED = {"euc_jp": "euc-jp", "iso2022_jp": "iso-2022-jp", "iso8859-16": "iso-8859-16", "koi8-r": "koi8-u"}
"""The detector's names that are no labels; and KOI8-U, which has all letters of KOI8-R, as browsers take it."""
_SPACE = "\t\n\f\r "
_TAG = re.compile(rb"<!--.*?-->|<meta[\s/](?:[^>\"']|\"[^\"]*\"|'[^']*')*>|<(?:script|style)[\s>].*?</", re.I | re.S)
_ATTRIBUTE = re.compile(rb"([^\s/>=][^\s/>=]*)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+)))?")
_IN_CONTENT = re.compile(rb"charset\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s;\"']+))", re.I)
_XML = re.compile(rb"<\?xml\s[^>]*?encoding\s*=\s*[\"']([^\"'\s>]+)")
_HANGUL = re.compile("[가-힣]")
_JIS = re.compile(rb"(\x1b(?:\([BJI]|\$[@B]))")


def encoding_name(label: str | None) -> str | None:
    """The encoding that a label means, by its name in the standard; None for what is no label."""
    return LABELS.get(label.strip(_SPACE).lower()) if label else None


def decode(data: bytes, declared: str | None = None, page: bool = True) -> str:
    """Text of a page, or of plain text. `declared`: the charset of the HTTP header, if it has one."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return decode_as(data[len(mark) :], name)
    unicode, broken = _as_utf8(data)
    if unicode is not None and len(data) - len(unicode) > UTF8_CHARACTERS and _beyond_ascii(unicode) >= UTF8_CHARACTERS:
        return unicode
    best: str | None = None
    fewest = 0
    for label in (encoding_name(declared), declared_in_page(data) if page else None):
        if label is None:
            continue
        text = decode_as(data, label)
        wrong = text.count("\ufffd")
        if not wrong or wrong <= CONTRADICTED * _beyond_ascii(text):
            return text
        if best is None or wrong < fewest:
            best, fewest = text, wrong
    if unicode is not None:
        return decode_as(data, "iso-2022-jp") if best is None and _JIS.search(data) else unicode
    cut = broken is not None and len(data) - broken.start < 4 and broken.reason == "unexpected end of data"
    if best is None and cut:  # within a character
        return data.decode("utf-8", "ignore")
    text = decode_as(data, _detected(data))
    return text if best is None or text.count("\ufffd") < fewest else best


def _as_utf8(data: bytes) -> tuple[str | None, UnicodeDecodeError | None]:
    try:
        return data.decode(), None
    except UnicodeDecodeError as e:
        return None, e


def _beyond_ascii(text: str) -> int:
    return len(text) - len(text.encode("ascii", "ignore"))


def _detected(data: bytes) -> str:
    """The encoding that bytes which are not UTF-8 look like."""
    found = detect_encoding(data)
    name = _DETECTED.get(found or "") or encoding_name(found)
    if name is None or name.startswith("utf-8"):  # also what the detector says when it does not know: of Korean
        korean = decode_as(data, "euc-kr")
        return "euc-kr" if 2 * len(_HANGUL.findall(korean)) > _beyond_ascii(korean) else "windows-1252"
    return name


def declared_in_page(data: bytes) -> str | None:
    """The encoding that a page names in its first bytes: HTML Standard, 13.2.3.2 (prescan)."""
    head = data[:PRESCAN_BYTES]
    last = max(head.lower().rfind(b"charset"), head.rfind(b"encoding", 0, 256))
    if last < 0:
        return None
    head = head[: last + 1024]
    xml = _XML.match(head)
    if xml and (name := encoding_name(xml[1].decode("latin-1"))):
        return _in_ascii(name)
    for tag in _TAG.finditer(head):
        if tag[0][:5].lower() != b"<meta":
            continue
        values: dict[bytes, bytes] = {}
        for match in _ATTRIBUTE.finditer(tag[0], 5):
            values.setdefault(match[1].lower(), match[2] or match[3] or match[4] or b"")
        label: bytes | None = values.get(b"charset")
        if label is None and values.get(b"http-equiv", b"").strip().lower() == b"content-type":
            found = _IN_CONTENT.search(values.get(b"content", b""))
            label = (found[1] or found[2] or found[3]) if found else None
        if label and (name := encoding_name(label.decode("latin-1"))):
            return _in_ascii(name)
    return None


def _in_ascii(name: str) -> str:
    """What a label that was read as ASCII can mean."""
    return {"utf-16be": "utf-8", "utf-16le": "utf-8", "x-user-defined": "windows-1252"}.get(name, name)


def decode_as(data: bytes, name: str) -> str:
    """Text in an encoding of the standard, U+FFFD for what it cannot decode."""
    if name == "utf-8":
        return data.decode("utf-8", "replace")
    if name == "replacement":
        return "\ufffd" if data else ""
    if name == "x-user-defined":
        return "".join(chr(b) if b < 0x80 else chr(0xF700 + b) for b in data)
    if name == "iso-2022-jp":
        return _iso_2022_jp(data)
    codec = _codec(name)
    text = data.decode(codec, f"raypt-{codec}")
    if codec in OTHERWISE and OTHERWISE_PATTERNS[codec].search(text):
        return text.translate(OTHERWISE[codec])
    return text


def _codec(name: str) -> str:
    """Python's codec for an encoding."""
    return CODECS.get(name, name).replace("-", "_")


def _iso_2022_jp(data: bytes) -> str:
    """The two-byte sets are those of EUC-JP with the high bits off."""
    out = []
    mode = b"\x1b(B"
    for i, part in enumerate(_JIS.split(data)):
        if i % 2:
            mode = part
        elif mode.startswith(b"\x1b$"):
            lines = re.split(rb"([\r\n])", part)  # a line ends the set
            out += [
                decode_as(bytes(b | 0x80 for b in piece) if j % 2 == 0 else piece, "euc-jp")
                for j, piece in enumerate(lines)
            ]
        elif mode == b"\x1b(I":
            out.append(decode_as(bytes(b | 0x80 for b in part), "shift_jis"))
        else:
            text = part.decode("ascii", "replace")
            out.append(text.translate({0x5C: "¥", 0x7E: "‾"}) if mode == b"\x1b(J" else text)
    return "".join(out)


def _handler(codec: str) -> Callable[[UnicodeError], tuple[str, int]]:
    """An error handler that knows what the standard decodes and Python's codec does not."""
    further = FURTHER.get(codec, {})
    controls = codec.startswith(("cp125", "cp874"))
    lone = _LONE.get(codec)

    def handle(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        at = error.start
        byte, pair = error.object[at], error.object[at : at + 2]
        found = further.get(pair) or (_vendor_character(pair) if codec == "euc_jp" else None)
        if found:
            return found, at + len(pair)
        if found := further.get(pair[:1]):
            return found, at + 1
        if controls and 0x80 <= byte < 0xA0:
            return chr(byte), at + 1
        if lone is not None and len(pair) == 2:
            # An ASCII character is never part of a mistake, nor is what follows a byte that begins nothing.
            return "\ufffd", at + (2 if pair[1] >= 0x80 and byte not in lone else 1)
        return "\ufffd", max(error.end, at + 1)

    return handle


def _vendor_character(pair: bytes) -> str | None:
    """NEC's and IBM's characters in EUC-JP (①, ㈱, 髙), at the place in JIS X 0208 that code page 932 gives them."""
    if len(pair) < 2 or min(pair) < 0xA1 or max(pair) > 0xFE:
        return None
    lead, trail = divmod((pair[0] - 0xA1) * 94 + pair[1] - 0xA1, 188)
    shifted = bytes([lead + (0x81 if lead < 0x1F else 0xC1), trail + (0x40 if trail < 0x3F else 0x41)])
    try:
        return shifted.decode("cp932")
    except UnicodeDecodeError:
        return None


for _name in set(LABELS.values()) - {"utf-8", "replacement", "x-user-defined"}:
    codecs.register_error(f"raypt-{_codec(_name)}", _handler(_codec(_name)))
