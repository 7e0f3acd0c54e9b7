"""Explanations of update rules, and their paths on functions of two variables.

From the catalogue of `optrial.rules` and the functions of `optrial.functions` to `text`, to the
HTML and Markdown of `page`, and to `files`, which need Matplotlib. Import the module you need:
`text` loads neither pandas nor Matplotlib.
"""
