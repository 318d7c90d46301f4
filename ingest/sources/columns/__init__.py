"""The roles of columns, and their known names."""
