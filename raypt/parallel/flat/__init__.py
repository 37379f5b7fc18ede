"""A model as one array: its layout, a part of it with its optimizer, and the model that computes over it."""
