"""The local Hub of tests/hub, with its surroundings, for what the guide pushes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PLACE = Path(__file__).parents[1] / "hub" / "conftest.py"
_spec = importlib.util.spec_from_file_location("conftest_of_the_hub", PLACE)
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

hub = _module.hub
hub_environment = _module.hub_environment
own_environment = _module.own_environment
