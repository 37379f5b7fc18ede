"""Training under Ray Train: the trainer, how many workers, what to do when some are lost."""
