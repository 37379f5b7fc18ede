"""Published recipes as their own code reads them, written down again from the definitions: slow, plain oracles."""
