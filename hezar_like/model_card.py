"""The README.md of a pushed model that has none yet."""

from __future__ import annotations

from .text_files import dump_yaml

PIPELINE_TAGS = {
    "text_classification": "text-classification",
    "sequence_labeling": "token-classification",
    "mask_filling": "fill-mask",
    "text_embedding": "sentence-similarity",
    "backbone": "feature-extraction",
}


def write(repo_id: str, name: str, task: str, num_parameters: int) -> str:
    """A card with metadata the Hub reads and a snippet that runs.

    Args:
        repo_id: Where the model will be.
        name: Its registry name.
        task: Its task; empty when it is a user's own model.
        num_parameters: Its size.
    """
    metadata = {"library_name": "hezar_like", "tags": ["hezar_like", *([task] if task else [])]}
    if task in PIPELINE_TAGS:
        metadata["pipeline_tag"] = PIPELINE_TAGS[task]
    return f"""---
{dump_yaml(metadata)}---

# {repo_id.partition("/")[2] or repo_id}

A `{name}` model with {num_parameters:,} parameters.

```python
from hezar_like import Model

model = Model.load("{repo_id}")
print(model.predict(["..."]))
```
"""
