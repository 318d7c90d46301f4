"""How good the recommendations are; and the command that gathers those of all rooms."""
