"""Small data and models to train; the folder is on the path, so that tests share `trained`."""
