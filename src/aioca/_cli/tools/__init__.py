"""What the commands caget, caput, camonitor and cainfo share."""
