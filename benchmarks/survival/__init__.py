"""What the survival commands share: a live cluster under load, faults, and who survives them."""
