"""Scoring of recommenders, and significance tests of the differences between them."""
