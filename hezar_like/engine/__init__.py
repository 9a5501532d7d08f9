"""How predictions are run: batches, options, progress. Knows no families and no tasks."""
