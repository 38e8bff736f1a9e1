"""Triples, vocabularies, readers and the catalog of datasets."""
