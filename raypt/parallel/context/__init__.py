"""Context parallelism (Ulysses, Jacobs et al. 2023), applied to a model from outside."""
