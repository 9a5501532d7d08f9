"""Puts this folder on the path, so that tests in all folders share `comparing` and `tiny_models`."""
