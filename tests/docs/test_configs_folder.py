"""Every config in configs/models builds the model it names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hezar_like import ModelConfig, build_model

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "models").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_builds(path: Path) -> None:
    config = ModelConfig.from_file(path)
    with torch.device("meta"):  # the large ones would take their time to fill
        model = build_model(config.name, config)
    assert model.num_parameters > 0
    assert model.config.to_dict() == config.to_dict()


def test_there_are_some() -> None:
    assert len(CONFIGS) >= 6
