"""Old import path of `evaluation.report.terminal`, kept for compatibility."""

from evaluation.report.terminal import print_evaluation as evaluation

__all__ = ["evaluation"]
