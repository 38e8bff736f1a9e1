"""Tables stored in fewer bytes, and models that score straight from them."""

from __future__ import annotations

from dglke_distill.compression.model import CompressedModel, compress, decompress
from dglke_distill.compression.storage import STORAGES, Storage, TableStorage, build_table
from dglke_distill.compression.table import StoredTable

__all__ = [
    "STORAGES",
    "CompressedModel",
    "Storage",
    "StoredTable",
    "TableStorage",
    "build_table",
    "compress",
    "decompress",
]
