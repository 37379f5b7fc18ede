"""Configuration of the masking of personal data and secrets."""

from typing import Literal, get_args

from pydantic import Field, field_validator

from raypt.settings import Settings

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
    "api_key",
    "private_key",
]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""Every kind that can be looked for, in the order of precedence when two readings of the same bytes compete."""

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
    "api_key": "<API_KEY>",
    "private_key": "<PRIVATE_KEY>",
}


class PiiConfig(Settings):
    """Which personal data and secrets are looked for, and what they are replaced by."""

    kinds: tuple[Kind, ...] = KINDS
    """Kinds to mask; an empty list switches masking off. email; ipv4, ipv6 (public addresses only); phone (forms of
    many countries, Chinese mobiles); url_credentials (the `user:password@` of a URL); credit_card (issuer
    prefix and Luhn check digit); iban (length by country and ISO 7064 check digits); cn_id (resident identity card of
    GB 11643, check digit); us_ssn; api_key (published prefixes of well-known services); private_key (PEM blocks)."""
    masks: dict[Kind, str] = Field(default_factory=dict)
    """Replacement text by kind, where it should differ from the default `<EMAIL>`, `<IP>`, `<PHONE>`, `<CREDENTIALS>`,
    `<CREDIT_CARD>`, `<IBAN>`, `<ID_NUMBER>`, `<API_KEY>`, `<PRIVATE_KEY>`."""

    @field_validator("kinds")
    @classmethod
    def _kinds_once(cls, value: tuple[Kind, ...]) -> tuple[Kind, ...]:
        return tuple(kind for kind in KINDS if kind in value)

    def mask(self, kind: Kind) -> str:
        """The text that replaces a span of `kind`."""
        return self.masks.get(kind, DEFAULT_MASKS[kind])
