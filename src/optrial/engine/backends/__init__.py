"""Ways of training runs: one by one in PyTorch or NumPy, or as a stack."""
