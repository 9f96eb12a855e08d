"""Requests: one caget, caput, connect or cainfo, for one or many PVs."""
