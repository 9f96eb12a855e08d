"""The terminal: screen, keys, signals, progress bar."""
