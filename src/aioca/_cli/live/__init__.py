"""What the commands watch and plot share."""
