"""One visible training loop, its losses, schedules and checkpoints."""
