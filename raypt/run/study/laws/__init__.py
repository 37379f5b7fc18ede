"""Laws of loss and their fits: pure functions on arrays, without Ray, files or configuration."""
