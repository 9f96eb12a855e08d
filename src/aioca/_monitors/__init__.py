"""Monitors: pending updates, delivery to callbacks and iteration, owners."""
