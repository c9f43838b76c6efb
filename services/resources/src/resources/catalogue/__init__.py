"""A partner's catalogue read: any of its formats as numbered rows, and rows as products or rejects. Knows no database."""

from resources.catalogue.formats import CONTENT_ENCODINGS, MEDIA_TYPES, rows_of
from resources.catalogue.products import Decoded, Product, decode
from resources.catalogue.rejects import Reject
from resources.catalogue.rows import CatalogueUnreadable, Fault, Limits, RawRow

__all__ = [
    "CONTENT_ENCODINGS",
    "MEDIA_TYPES",
    "CatalogueUnreadable",
    "Decoded",
    "Fault",
    "Limits",
    "Product",
    "RawRow",
    "Reject",
    "decode",
    "rows_of",
]
