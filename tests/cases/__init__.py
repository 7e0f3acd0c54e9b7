"""Situations of real users: each folder holds the inputs of one, each test what is right."""
