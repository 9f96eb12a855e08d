"""Channel Access messages without libca: search, beacons, the repeater."""
