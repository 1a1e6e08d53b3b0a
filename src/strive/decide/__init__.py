"""Values that are chosen from the records of other sweeps, and the launch that begins with them."""
