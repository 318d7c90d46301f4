"""Output to terminals, files and programs: text, tables and progress."""
