"""The base of metrics: values of a whole corpus, also when it comes in batches or from several processes."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from ..configs import MetricConfig
from ..errors import DataError, OptionError, did_you_mean

__all__ = ["Metric", "plain"]


class Metric:
    """Compares predictions with targets. Registered with `register_metric`; a subclass implements `score`.

    Values are never means of batches: `update` collects, and `compute` then counts all at once. What was collected is
    in `predictions` and `targets`, plain lists, which other processes can send and `update` takes.

    Args:
        config: The settings; copied.
        **kwargs: Fields of the config to override.
    """

    config_class: ClassVar[type[MetricConfig]] = MetricConfig

    def __init__(self, config: MetricConfig | None = None, **kwargs: Any) -> None:
        self.config: Any = copy.deepcopy(config or self.config_class()).update(kwargs)
        self.reset()

    def reset(self) -> None:
        """Forgets what was collected."""
        self.predictions: list[Any] = []
        self.targets: list[Any] = []

    def update(self, predictions: Any, targets: Any) -> None:
        """Collects a batch; what each is, the metric says.

        Raises:
            DataError: When there are not as many predictions as targets.
        """
        found = self.reduce(predictions, targets)
        self.predictions += found[0]
        self.targets += found[1]

    def compute(
        self,
        predictions: Any = None,
        targets: Any = None,
        *,
        n_decimals: int | None = None,
        output_keys: list[str] | None = None,
        **options: Any,
    ) -> dict[str, float]:
        """The values of the predictions that are given, or else of all that was collected.

        Args:
            predictions: What was predicted.
            targets: What was right.
            n_decimals: Decimals to round to; default: the config's.
            output_keys: Which values; default: the config's.
            **options: Fields of the config to override in this call.

        Raises:
            DataError: When there is nothing to count, or not as many predictions as targets.
            ConfigError, OptionError: For an unknown option or key, or a wrong value.
        """
        if (predictions is None) != (targets is None):
            raise OptionError("give predictions and targets, or neither to count what was collected.")
        config = copy.deepcopy(self.config).update(options)
        if predictions is None:
            found = self.predictions, self.targets
        else:
            found = type(self)(config).reduce(predictions, targets)
        if not found[0]:
            raise DataError(f"the metric {config.name!r} has nothing to count. Give predictions and targets.")
        values = self.score(*found, config)
        keys = config.output_keys if output_keys is None else output_keys
        for key in keys or ():
            if key not in values:
                raise OptionError(f"the metric {config.name!r} has no value {key!r}.{did_you_mean(key, values)}")
        digits = config.n_decimals if n_decimals is None else n_decimals
        chosen = {key: float(values[key]) for key in (values if keys is None else keys)}
        return chosen if digits is None else {key: round(value, digits) for key, value in chosen.items()}

    def reduce(self, predictions: Any, targets: Any) -> tuple[list[Any], list[Any]]:
        """What is kept of a batch, one item per sample; overridden by metrics that take tensors of scores."""
        first, second = plain(predictions), plain(targets)
        if len(first) != len(second):
            raise DataError(f"there are {len(first)} predictions, but {len(second)} targets. Give as many of both.")
        return first, second

    def score(self, predictions: list[Any], targets: list[Any], config: Any) -> dict[str, float]:
        """The values by name; each metric says how.

        Args:
            predictions: What `reduce` kept, of all batches.
            targets: Likewise, as many.
            config: The settings of this call.
        """
        raise NotImplementedError(f"{type(self).__name__} must define score.")


def plain(values: Any) -> list[Any]:
    """Arrays and tensors as lists."""
    found = values.tolist() if hasattr(values, "tolist") else list(values)
    return found if isinstance(found, list) else [found]
