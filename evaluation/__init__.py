"""Evaluation of releases and services: protocol, metrics, baselines, tuning and benchmarks."""
