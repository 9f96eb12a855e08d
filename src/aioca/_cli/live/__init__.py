"""The live state of PVs, and the views of it: the table of `watch` and the figure of `plot`."""
