"""One caget, caput or connect for one PV or for many."""
