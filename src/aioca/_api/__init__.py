"""The public functions: signatures, checks of arguments, results."""
