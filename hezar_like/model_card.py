"""The README.md of a pushed model that has none yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .text_files import dump_yaml

if TYPE_CHECKING:
    from .models.model import Model

PIPELINE_TAGS = {
    "text_classification": "text-classification",
    "sequence_labeling": "token-classification",
    "mask_filling": "fill-mask",
    "text_embedding": "sentence-similarity",
    "backbone": "feature-extraction",
}


def write(model: Model, repo_id: str) -> str:
    """A card with metadata the Hub reads and a snippet that runs.

    Args:
        model: The model.
        repo_id: Where it will be.
    """
    task = getattr(model, "task", "")
    metadata = {"library_name": "hezar_like", "tags": ["hezar_like", *([task] if task else [])]}
    if task in PIPELINE_TAGS:
        metadata["pipeline_tag"] = PIPELINE_TAGS[task]
    return f"""---
{dump_yaml(metadata)}---

# {repo_id.partition("/")[2] or repo_id}

A `{model.config.name}` model with {model.num_parameters:,} parameters.

```python
from hezar_like import Model

model = Model.load("{repo_id}")
print(model.predict(["..."]))
```
"""
