"""Hezar's module path of the Trainer."""

from __future__ import annotations

from .training.config import TrainerConfig
from .training.trainer import Trainer

__all__ = ["Trainer", "TrainerConfig"]
