"""What kernels over text share: one table of Unicode classes, Arrow buffers, hashing."""
