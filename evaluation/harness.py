"""Documented import path of the harness; the code is in `evaluation.judge.harness`."""

from evaluation.judge.harness import Plan, evaluate, measure

__all__ = ["Plan", "evaluate", "measure"]
