"""The model of a release, and the stores that keep releases."""
