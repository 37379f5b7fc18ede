"""Configuration of the masking of personal data and secrets."""

from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pyarrow.compute as pc
from pydantic import Field, field_validator

from raypt.curation.base import Attributes, StageSettings
from raypt.curation.view import Measured, View
from raypt.text.buffers import TextBatch

Kind = Literal[
    "email",
    "ipv4",
    "ipv6",
    "phone",
    "url_credentials",
    "credit_card",
    "iban",
    "cn_id",
    "us_ssn",
    "cn_uscc",
    "hk_id",
    "tw_id",
    "kr_rrn",
    "passport",
    "cn_plate",
    "wechat",
    "qq",
    "api_key",
    "private_key",
    "user",
]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""Every kind that can be looked for, in the order of precedence when two readings of the same bytes compete."""

USUAL_KINDS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind != "user")
"""What is looked for unless said otherwise: names of users are words of code (`@property`), too."""

DEFAULT_MASKS: dict[Kind, str] = {
    "email": "<EMAIL>",
    "ipv4": "<IP>",
    "ipv6": "<IP>",
    "phone": "<PHONE>",
    "url_credentials": "<CREDENTIALS>",
    "credit_card": "<CREDIT_CARD>",
    "iban": "<IBAN>",
    "cn_id": "<ID_NUMBER>",
    "us_ssn": "<ID_NUMBER>",
    "cn_uscc": "<ID_NUMBER>",
    "hk_id": "<ID_NUMBER>",
    "tw_id": "<ID_NUMBER>",
    "kr_rrn": "<ID_NUMBER>",
    "passport": "<ID_NUMBER>",
    "cn_plate": "<PLATE>",
    "wechat": "<ACCOUNT>",
    "qq": "<ACCOUNT>",
    "api_key": "<API_KEY>",
    "private_key": "<PRIVATE_KEY>",
    "user": "<USER>",
}


class PiiConfig(StageSettings):
    """Which personal data and secrets are looked for, and what they are replaced by. Attribute: `pii_spans`, a list of
    the spans masked (kind, and byte positions in the text before masking)."""

    stage: ClassVar[str] = "pii"
    edits: ClassVar[bool] = True
    repeatable: ClassVar[bool] = False
    adds: ClassVar[tuple[str, ...]] = ("pii_spans",)

    kinds: tuple[Kind, ...] = USUAL_KINDS
    """Kinds to mask; an empty list switches masking off. email; ipv4, ipv6 (public addresses only); phone (forms of
    many countries, Chinese mobiles); url_credentials (the `user:password@` of a URL); credit_card (issuer
    prefix and Luhn check digit); iban (length by country and ISO 7064 check digits); cn_id (resident identity card of
    GB 11643, check digit; 15 digits where a word announces them); us_ssn; cn_uscc (social credit code of companies, GB
    32100), hk_id, tw_id, kr_rrn (check digits); passport (after the word); cn_plate (number plates); wechat, qq (after
    the word); api_key (published prefixes of well-known services); private_key (PEM blocks); user (`@name`, as in
    ROOTS; not among the default: it takes decorators of code for names, too). Full-width characters, `&#64;` and
    `name [at] example [dot] com` are read as what they stand for."""
    masks: dict[Kind, str] = Field(default_factory=dict)
    """Replacement text by kind, where it should differ from the default `<EMAIL>`, `<IP>`, `<PHONE>`, `<CREDENTIALS>`,
    `<CREDIT_CARD>`, `<IBAN>`, `<ID_NUMBER>`, `<PLATE>`, `<ACCOUNT>`, `<API_KEY>`, `<PRIVATE_KEY>`, `<USER>`."""

    @field_validator("kinds")
    @classmethod
    def _kinds_once(cls, value: tuple[Kind, ...]) -> tuple[Kind, ...]:
        return tuple(kind for kind in KINDS if kind in value)

    def mask(self, kind: Kind) -> str:
        """The text that replaces a span of `kind`."""
        return self.masks.get(kind, DEFAULT_MASKS[kind])

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The spans, and the text with their masks; nothing without kinds."""
        from raypt.curation.pii.mask import mask_pii  # which reads these settings

        if not self.kinds:
            return Measured()
        masked, spans, _ = mask_pii(view.text.to_arrow(), self)
        return Measured(columns={"pii_spans": spans}, text=TextBatch.from_arrow(masked))

    def cuts(self, attributes: Attributes) -> dict[str, np.ndarray]:
        """`mask`: bytes of the spans less those of their masks."""
        if "pii_spans" not in attributes:
            return {}
        spans = attributes.column("pii_spans")
        values = spans.flatten()
        kinds = values.field("kind").dictionary_encode()
        masks = np.array([len(self.mask(kind).encode()) for kind in kinds.dictionary.to_pylist()], np.int64)
        length = values.field("end").to_numpy().astype(np.int64) - values.field("start").to_numpy()
        shorter = np.concatenate([[0], np.cumsum(length - masks[kinds.indices.to_numpy()])])
        ends = np.cumsum(pc.fill_null(pc.list_value_length(spans), 0).to_numpy())
        return {"mask": np.diff(shorter[np.concatenate([[0], ends])])}
