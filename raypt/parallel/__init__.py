"""Parallel strategies behind one facade. They import the model and know nothing of data, files or Ray."""
