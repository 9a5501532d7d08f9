"""The text normalizer: Unicode normal forms, then replacements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, normalizers

from ..configs import PreprocessorConfig
from ..errors import ConfigError, InputError, PreprocessorError
from ..registry import register_preprocessor
from .preprocessor import Preprocessor
from .rust_backend import guarded
from .text_inputs import refuse_broken_text

__all__ = ["TextNormalizer", "TextNormalizerConfig"]

Patterns = Sequence[Sequence[str]] | Mapping[str, Sequence[str]] | Sequence[Mapping[str, Sequence[str]]]


@dataclass
class TextNormalizerConfig(PreprocessorConfig):
    r"""Settings of a text normalizer.

    Attributes:
        replace_patterns: Pairs of a regular expression and its replacement, applied in order. A mapping whose values
            are pairs, or a list of such mappings, is taken too; its keys are only names. The regular expressions are
            Oniguruma's. The replacement is literal: `\1` and `$1` stand for themselves.
        nfkd: Whether the text is brought into the form NFKD first.
        nfkc: Whether the text is then brought into the form NFKC.
    """

    name = "text_normalizer"
    replace_patterns: Any = None
    nfkd: bool = True
    nfkc: bool = True

    def check(self) -> None:
        super().check()
        if self.replace_patterns is not None:
            object.__setattr__(self, "replace_patterns", _as_pairs(self.replace_patterns))


@register_preprocessor("text_normalizer", TextNormalizerConfig)
class TextNormalizer(Preprocessor):
    """Normalizes texts: NFKD, NFKC, then the replacements.

    Args:
        config: The settings.
        **kwargs: Fields of the config to override.

    Raises:
        PreprocessorError: When a regular expression is wrong; names it.
    """

    config: TextNormalizerConfig
    config_filename = "normalizer_config.yaml"

    def __init__(self, config: TextNormalizerConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self._replacers = _replacers(self.config.replace_patterns)

    def __call__(
        self,
        inputs: str | Sequence[str],
        replace_patterns: Patterns | None = None,
        nfkd: bool | None = None,
        nfkc: bool | None = None,
    ) -> list[str]:
        """Normalizes texts.

        Args:
            inputs: A text, or texts.
            replace_patterns: Instead of the config's; [] for none.
            nfkd: Instead of the config's.
            nfkc: Instead of the config's.

        Returns:
            One text per input.

        Raises:
            InputError: With the index of an item that is not a text.
            PreprocessorError: When a regular expression is wrong, or would take too long on a text.
        """
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"is {text!r:.60} ({type(text).__name__}); give a text.", index)
        steps = [
            *([normalizers.NFKD()] if (self.config.nfkd if nfkd is None else nfkd) else []),
            *([normalizers.NFKC()] if (self.config.nfkc if nfkc is None else nfkc) else []),
            *(self._replacers if replace_patterns is None else _replacers(_as_pairs(replace_patterns))),
        ]
        normalizer = normalizers.Sequence(steps)
        try:
            return [_normalized(normalizer, text, index) for index, text in enumerate(texts)]
        except PreprocessorError:
            refuse_broken_text(texts)
            raise

    def __reduce__(self) -> tuple[Any, ...]:  # the Rust objects cannot be copied or pickled
        return type(self), (self.config,)


def _normalized(normalizer: normalizers.Normalizer, text: str, index: int) -> str:
    with guarded(f"item {index} of the inputs cannot be normalized", "Simplify `replace_patterns`.", PreprocessorError):
        return normalizer.normalize_str(text)


def _as_pairs(patterns: Any) -> list[list[str]]:
    where = "TextNormalizerConfig.replace_patterns"
    if isinstance(patterns, Mapping):
        patterns = list(patterns.values())
    if not isinstance(patterns, Sequence) or isinstance(patterns, str):
        raise ConfigError(f"{where} is {patterns!r:.80}; it must be a list of [regular expression, replacement].")
    pairs: list[list[str]] = []
    for index, item in enumerate(patterns):
        if isinstance(item, Mapping):
            pairs += _as_pairs(item)
        elif isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(part, str) for part in item):
            pairs.append(list(item))
        else:
            raise ConfigError(f"{where}[{index}] is {item!r:.80}; it must be [regular expression, replacement].")
    return pairs


def _replacers(pairs: Sequence[Sequence[str]] | None) -> list[normalizers.Normalizer]:
    return [_replacer(pattern, replacement) for pattern, replacement in pairs or ()]


def _replacer(pattern: str, replacement: str) -> normalizers.Normalizer:
    with guarded(f"the regular expression {pattern!r:.200} is wrong", "Correct `replace_patterns`.", PreprocessorError):
        return normalizers.Replace(Regex(pattern), replacement)
