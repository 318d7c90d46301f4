"""Conversion of values: positions, plays and payload fields."""
