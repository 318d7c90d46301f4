"""Import path of earlier versions for the terminal report, now in `evaluation.report.terminal`."""

from evaluation.report.terminal import print_evaluation as evaluation

__all__ = ["evaluation"]
