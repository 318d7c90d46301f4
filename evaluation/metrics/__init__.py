"""Metrics: functions from rankings and labels to one figure per query, which the caller averages.

A ranking is a row of an array: song numbers, the best song first, padded with -1.
"""
