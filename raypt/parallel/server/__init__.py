"""The parameter server: weights and optimizer states in slices on servers, gradients from workers (Li et al. 2014)."""
