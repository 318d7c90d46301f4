"""Metrics: from rankings and labels to a figure a query; the caller averages.

A ranking is a row of song numbers, the best first, filled up with -1 where there are fewer.
"""
