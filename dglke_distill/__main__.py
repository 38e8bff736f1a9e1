"""Lets ``python -m dglke_distill`` do what ``dglke-distill`` does."""

from __future__ import annotations

from dglke_distill.cli import main

if __name__ == "__main__":
    main()
