"""The channels of one event loop: connection, reconnection, updates, clearing and write limits."""
