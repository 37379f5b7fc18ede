"""The sample clock and the stream: which samples a step trains on, and how they get to the workers."""
