"""Scoring of systems, and paired tests of the differences between them."""
