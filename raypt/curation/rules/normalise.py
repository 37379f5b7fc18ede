"""Text put right without being judged: broken encodings repaired, Unicode composed, addresses, lines of symbols and
runs of empty lines taken out. Each step is off until asked for; they run in the order of the settings.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from raypt.curation.base import CHANGED_PREFIX, CUT_PREFIX, StageSettings
from raypt.curation.broken import may_change
from raypt.curation.rules.addresses import remove_addresses
from raypt.curation.rules.base import struct
from raypt.curation.rules.symbol_lines import clean_lines, content_table
from raypt.curation.view import Measured, View
from raypt.errors import UserError
from raypt.text.buffers import TextBatch, byte_lengths

INSTALL_FTFY = "pip install 'raypt[ftfy]'"

_LETTERS = r"A-Za-z0-9\p{Latin}\p{Greek}\p{Cyrillic}\p{Arabic}\p{Hebrew}"
_INNER = rf"[{_LETTERS}\-._~:/?#\[\]@!$&'*+,;=%]"
_CLOSED = rf"\({_INNER}*\)"
URL = rf"(?i)\b(?:(?:https?|ftps?)://|www\.)(?:{_INNER}|{_CLOSED})*(?:[{_LETTERS}\-_~/#@$&+=%]|{_CLOSED})"
"""An address (RFC 3986's characters, and letters of scripts that put a space after it: Chinese text begins where the
address ends). Punctuation at its end is the sentence's, and so is a bracket that was not opened in it."""

Repair = Callable[[str], str]


class Normalise(StageSettings):
    """Repair and clean-up of text, each step off until it is asked for, in this order."""

    stage: ClassVar[str] = "normalise"
    edits: ClassVar[bool] = True

    ftfy: Literal["none", "encoding", "all"] = "none"
    """Repair with ftfy (extra `raypt[ftfy]`). encoding: text decoded wrongly (`â€™` for `’`), HTML entities in text
    without tags, terminal escapes, control characters; what is well-formed stays, as in FineWeb-2. all: ftfy's
    defaults, as in SlimPajama, which besides write full-width letters and punctuation half-width (in Chinese, too),
    curly quotes straight, ligatures as letters, line ends as \\n, and compose Unicode (NFC)."""
    unicode: Literal["none", "NFC", "NFKC", "NFD", "NFKD"] = "none"
    """Normalisation form of Unicode."""
    urls: Literal["keep", "remove", "domains"] = "keep"
    """remove: addresses that begin with http(s)://, ftp(s):// or www. are taken out of the text. domains: DCLM's, also
    those that only end in a top-level domain (`example.com/x`, and so `README.md`) and IPv4 addresses, each with the
    white space before it."""
    symbol_lines: Literal["keep", "drop"] = "keep"
    """Lines without a letter or number (`* * *`, `|---|`) go; lines of white space alone stay."""
    symbols: str = ""
    """Only lines made of these characters and white space count as lines of symbols; empty: of all that are no letters
    or numbers. FineWeb-2 drops lines of `|`."""
    symbol_lines_leave: int = Field(0, ge=0, le=2)
    """Empty lines that stand where a run of lines of symbols was (FineWeb-2: 2)."""
    newlines_max: int | None = Field(None, ge=1)
    """Most line ends in a row; further ones go (DCLM: 2)."""

    @field_validator("symbols")
    @classmethod
    def _no_letters(cls, value: str) -> str:
        wrong = [c for c in value if c.isalnum() or c.isspace()]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no symbol: letters, numbers and white space cannot be among them")
        return value

    def packages(self) -> Mapping[str, str]:
        """ftfy, where it repairs."""
        return {} if self.ftfy == "none" else {"ftfy": INSTALL_FTFY}

    def load(self, artefact: str | None) -> Repair | None:
        """ftfy's repair of a text; UserError where the package is not installed on this machine."""
        return None if self.ftfy == "none" else _repair(self.ftfy)

    def measure(self, view: View, resources: Repair | None = None) -> Measured:
        """The text after the steps; by step, whether it changed a document and by how many bytes it became shorter."""
        account = _Account(view.text.to_arrow(), {})
        if resources is not None:
            account.step("ftfy", _repaired(account.text, resources, self.ftfy == "all"))
        if self.unicode != "none":
            account.step("unicode", pc.utf8_normalize(account.text, form=self.unicode))
        if self.urls == "remove":
            account.columns["url_count"] = pc.count_substring_regex(account.text, URL).cast(pa.int64())
            account.step("url", pc.replace_substring_regex(account.text, URL, ""))
        if self.urls == "domains":
            edited, account.columns["url_count"] = remove_addresses(TextBatch.from_arrow(account.text))
            account.step("url", edited.to_arrow())
        if self.symbol_lines == "drop" or self.newlines_max is not None:
            self._lines(account)
        if not account.columns:
            return Measured()
        return Measured(struct(account.columns), TextBatch.from_arrow(account.text))

    def _lines(self, account: "_Account") -> None:
        text = TextBatch.from_arrow(account.text)
        table = content_table(self.symbols) if self.symbol_lines == "drop" else None
        edited, lines, symbol_bytes, newline_bytes = clean_lines(
            text, table, self.symbol_lines_leave, self.newlines_max
        )
        account.text = edited.to_arrow()
        if table is not None:
            account.columns["symbol_line_count"] = lines
            account.add("symbol_line", lines > 0, symbol_bytes)
        if self.newlines_max is not None:
            account.add("newline", newline_bytes > 0, newline_bytes)


@dataclass
class _Account:
    """The text so far, and what the steps before did to it."""

    text: pa.Array
    columns: dict[str, Any]

    def step(self, name: str, after: pa.Array) -> None:
        changed = pc.not_equal(after.cast(self.text.type), self.text)
        cut = byte_lengths(self.text) - byte_lengths(after)
        self.add(name, changed.to_numpy(zero_copy_only=False), cut)
        self.text = after

    def add(self, name: str, changed: np.ndarray, cut: np.ndarray) -> None:
        self.columns[CHANGED_PREFIX + name], self.columns[CUT_PREFIX + name] = changed, cut


def _repair(how: str) -> Repair:
    try:
        import ftfy
    except ImportError:
        raise UserError(
            f"curation.normalise.ftfy needs the package ftfy, which is not installed on {socket.gethostname()}: "
            f"{INSTALL_FTFY}"
        ) from None
    config = ftfy.TextFixerConfig(explain=False)
    if how == "encoding":  # as datatrove's FTFYFormatter
        config = config._replace(
            fix_latin_ligatures=False,
            fix_character_width=False,
            uncurl_quotes=False,
            fix_line_breaks=False,
            normalization=None,
        )
    return lambda text: str(ftfy.fix_text(text, config))


def _repaired(text: pa.Array, repair: Repair, formatting: bool) -> pa.Array:
    """Every document that ftfy may change through it."""
    asked = may_change(text, formatting)
    if not pc.any(asked).as_py():
        return text
    after = pa.array([repair(t) for t in text.filter(asked).to_pylist()], text.type)
    return pc.replace_with_mask(text, asked, after)
