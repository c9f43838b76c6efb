"""CNPJ as people write it → as it is kept: fourteen characters, or the eight of a company's root."""

from __future__ import annotations

import re

from contracts.values import cnpj_is_valid

from identity.domain import CnpjInvalid

ROOT_CHARS = 8
_PUNCTUATION = re.compile(r"[./-]")
_ROOT = re.compile(r"[0-9A-Z]{8}", re.ASCII)


def normalised(written: str, *, pointer: str = "/cnpj") -> str:
    """The fourteen upper-case ASCII characters; raises `CnpjInvalid` for a wrong shape or wrong check digits."""
    cnpj = _PUNCTUATION.sub("", written)
    if not cnpj_is_valid(cnpj):
        raise CnpjInvalid("not a CNPJ: 14 characters A-Z and 0-9 with right check digits are needed", pointer=pointer)
    return cnpj


def normalised_or_root(written: str, *, pointer: str) -> str:
    """A whole CNPJ, or a root of eight characters, which has no check digits."""
    cnpj = _PUNCTUATION.sub("", written)
    return cnpj if _ROOT.fullmatch(cnpj) else normalised(cnpj, pointer=pointer)


def root_of(cnpj: str) -> str:
    """The company; the rest of a CNPJ is the establishment."""
    return cnpj[:ROOT_CHARS]
