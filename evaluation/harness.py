"""Documented import path of the functions in `evaluation.judge.harness`."""

from evaluation.judge.harness import Plan, evaluate, measure

__all__ = ["Plan", "evaluate", "measure"]
