"""The command line."""

from dglke_distill.cli.app import app, main

__all__ = ["app", "main"]
