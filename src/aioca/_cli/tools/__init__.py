"""Shared code of caget, caput, camonitor and cainfo: options, reading, output."""
