"""The channels of one event loop, and what keeps them in order."""
