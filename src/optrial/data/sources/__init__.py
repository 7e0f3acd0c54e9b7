"""Sources of samples: files, the user's code, published and generated datasets.

Each reader takes a `Request` and returns a `Source`. The catalogue imports the module of a reader
when a dataset needs it, so that pandas and scikit-learn are loaded for the datasets that use them.
"""
