"""The systems that an evaluation scores."""
