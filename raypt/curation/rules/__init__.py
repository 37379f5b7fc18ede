"""Families of rules about one document, each a small module: settings, metrics, and where it applies, a text edit."""
