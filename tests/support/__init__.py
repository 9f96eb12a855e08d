"""What the tests share, other than fixtures."""
