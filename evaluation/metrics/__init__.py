"""Metrics: functions that compute one figure per query from rankings and labels.

Callers average the figures. A ranking is a row of an array: song numbers, the best song first,
padded with -1.
"""
