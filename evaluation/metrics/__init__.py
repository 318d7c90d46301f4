"""Metrics: one figure per query from rankings and labels; the caller averages them.

A ranking is a row of song numbers, the best first, padded with -1.
"""
