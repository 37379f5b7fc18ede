"""What this machine does a second: one module a stage, one process each unless it says so."""
