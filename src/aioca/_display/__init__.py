"""What a person sees of a value: text, and HTML for notebooks. Imported when it is first needed."""
