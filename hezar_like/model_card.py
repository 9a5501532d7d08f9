"""The README.md of a pushed model that has none yet."""

from __future__ import annotations

from .text_files import dump_yaml


def write(repo_id: str, name: str, task: str, pipeline_tag: str, num_parameters: int) -> str:
    """A card with metadata the Hub reads and a snippet that runs.

    Args:
        repo_id: Where the model will be.
        name: Its registry name.
        task: Its task; empty when it is a user's own model.
        pipeline_tag: The Hub's name for the task; empty when it has none.
        num_parameters: Its size.
    """
    metadata = {"library_name": "hezar_like", "tags": ["hezar_like", *([task] if task else [])]}
    if pipeline_tag:
        metadata["pipeline_tag"] = pipeline_tag
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
