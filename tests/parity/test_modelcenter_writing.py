"""What ModelCenter's beam search wrote with its T5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hezar_like import Model

FIXTURES = Path(__file__).parents[1] / "fixtures" / "flagai_modelcenter"
GOLDEN = json.loads((FIXTURES / "generation" / "golden.json").read_text())
ROWS = [(name, row) for name, record in GOLDEN.items() if name.startswith("t5") for row in record["rows"]]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_golden_traces(name: str, row: dict[str, Any]) -> None:
    """Its rules: the score is the mean log-probability of what may be written; no text ends with its first token."""
    folder, _, beams = name.partition("/beam")
    model, record = Model.load(FIXTURES / folder, task="text_generation"), GOLDEN[name]
    start = torch.tensor([row["decoder_start"]])
    written = model.generate(
        token_ids=torch.tensor([row["input_ids"]]),
        decoder_input_ids=start,
        num_beams=int(beams),
        max_new_tokens=len(row["output_ids"]),
        eos_token_id=record["end_tokens"],
        begin_suppress_tokens=record["end_tokens"],
        suppress_tokens=record["banned"],
        renormalize_logits=True,
    )
    assert written[0, start.size(1) :].tolist() == row["output_ids"]
