"""The subcommands: one module for each, which defines `command`."""
