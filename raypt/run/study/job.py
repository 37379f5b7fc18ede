"""What a change of data, size or recipe does to a model: a study, or the fit of a law to a table of runs."""
