"""Scoring systems, and testing whether they differ."""
