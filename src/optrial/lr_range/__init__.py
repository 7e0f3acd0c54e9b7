"""The learning-rate range test: losses while the rate of each optimizer grows step by step."""
