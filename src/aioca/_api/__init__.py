"""What users call: signatures, checks of arguments, results."""
