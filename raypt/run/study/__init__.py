"""Studies: what a change of data, size or recipe does to a model, by many small trainings and their statistics."""
