"""The published systems, one file each, with the same four names: Config, build_network, training_step, predict."""
