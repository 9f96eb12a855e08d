"""libca through ctypes."""
