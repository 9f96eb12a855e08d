"""The checks of `aioca doctor`: settings, searches, circuits, channels, and the findings."""
