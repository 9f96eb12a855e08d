"""How the command doctor finds out why a PV does not connect."""
