"""The options of generation: one dataclass for what a model's files set and what a caller asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self, get_type_hints

from ..configs import Config
from ..errors import ConfigError, OptionError
from ..fields import Between, Count, Probability, Size, TokenId

__all__ = ["GenerationConfig", "generation_field"]

Beams = Annotated[int, Between(1, 1000)]
Penalty = Annotated[float, Between(-100, 100)]
Positive = Annotated[float, Between(1e-6, 1e6)]
Share = Annotated[float, Between(1e-9, 1)]
Seed = Annotated[int, Between(0, 2**63 - 1)]


@dataclass(kw_only=True)
class GenerationConfig(Config):
    """What decides which tokens are written; the names are transformers'.

    With neither `num_beams`, `do_sample` nor another strategy, the best next token is taken again and again (greedy).
    """

    max_new_tokens: Size | None = None
    """The most tokens to write; None: as `max_length` says, else 50, or half of the model's positions if those are
    fewer."""
    max_length: Size | None = None
    """The most tokens with those of a decoder's input, the start token included; `max_new_tokens` wins over it."""
    min_new_tokens: Count = 0
    """No end before so many new tokens."""
    min_length: Count = 0
    """No end before so many tokens with those of a decoder's input."""
    stop: list[str] = field(default_factory=list)
    """Texts that end what is written where they appear in it, and are cut off; they may span tokens."""
    num_beams: Beams = 1
    """Number of beams of beam search; 1: no beam search."""
    num_beam_groups: Beams = 1
    """Number of groups of beams that are kept apart (Vijayakumar et al., 2016: https://arxiv.org/abs/1610.02424)."""
    diversity_penalty: Annotated[float, Between(0, 1000)] = 0.0
    """What a token loses for each beam of an earlier group that takes it in the same step."""
    length_penalty: Penalty = 1.0
    """A finished beam's score is its log-probability over its number of new tokens to this power."""
    early_stopping: bool | Literal["never"] = False
    """Whether beam search stops when there are `num_beams` finished ones; False: when better ones are unlikely;
    "never": when there can be no better ones."""
    num_return_sequences: Beams = 1
    """Number of texts for each input: of beam search the best ones, else samples."""
    do_sample: bool = False
    """Draw tokens by their probabilities."""
    temperature: Annotated[float, Between(0, 1e6)] = 1.0
    """What scores are divided by before tokens are drawn; 0: take the best ones."""
    top_k: Count | None = None
    """Draw from so many best tokens, None and 0: all; of contrastive search the number of candidates."""
    top_p: Share | None = None
    """Draw from the best tokens that together have this probability (Holtzman et al., 2019:
    https://arxiv.org/abs/1904.09751)."""
    min_p: Probability | None = None
    """Draw from tokens with at least this part of the best one's probability."""
    typical_p: Share | None = None
    """Draw from the tokens of most typical information that together have this probability (Meister et al., 2022:
    https://arxiv.org/abs/2202.00666)."""
    seed: Seed | None = None
    """Makes what is drawn for an input depend on nothing but the input and this; None: on chance."""
    penalty_alpha: Probability | None = None
    """Contrastive search with `top_k` candidates: how much being unlike the text before counts (Su et al., 2022:
    https://arxiv.org/abs/2202.06417)."""
    prompt_lookup_num_tokens: Size | None = None
    """Guess so many tokens at once from what the text says already; the tokens are those of greedy search, faster."""
    repetition_penalty: Positive = 1.0
    """Scores of tokens that are there already are divided by it, negative ones multiplied (Keskar et al., 2019:
    https://arxiv.org/abs/1909.05858)."""
    repetition_window: Size | None = None
    """How many of the last tokens count for `repetition_penalty`; None: all."""
    no_repeat_ngram_size: Count = 0
    """No n-gram of this size appears twice; 0: any may."""
    bad_words: list[str] = field(default_factory=list)
    """Words that are not written, at least not with the tokens that they usually have."""
    bad_words_ids: list[list[TokenId]] | None = None
    """Sequences of tokens that are never written."""
    suppress_tokens: list[TokenId] | None = None
    """Tokens that are never written."""
    begin_suppress_tokens: list[TokenId] | None = None
    """Tokens that are not written first."""
    renormalize_logits: bool = False
    """Whether the probabilities of what the rules leave make up 1 again, as in ModelCenter; beams then compare by
    these."""
    forced_bos_token_id: TokenId | None = None
    """The token that is written first."""
    forced_eos_token_id: TokenId | list[TokenId] | None = None
    """The token that is written last where the number of tokens runs out."""
    decoder_start_token_id: TokenId | None = None
    """The token an encoder-decoder's output starts from; None: the model's."""
    eos_token_id: TokenId | list[TokenId] | None = None
    """The tokens that end a text; None: the model's."""

    default_filename: ClassVar[str] = "generation_config.yaml"
    needs: ClassVar[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
        **{
            name: ("do_sample=True", lambda c: c.do_sample)
            for name in ("temperature", "top_p", "min_p", "typical_p", "seed")
        },
        "top_k": ("do_sample=True, or penalty_alpha", lambda c: c.do_sample or bool(c.penalty_alpha)),
        "num_beam_groups": ("num_beams", lambda c: c.num_beams > 1),
        "diversity_penalty": ("num_beam_groups of 2 or more", lambda c: c.num_beam_groups > 1),
        "repetition_window": ("a repetition_penalty", lambda c: c.repetition_penalty != 1.0),
    }
    """Options that mean something with others only: what these are, and whether they are set."""

    def check(self) -> None:
        super().check()
        strategies = {
            "num_beams": self.num_beams > 1,
            "do_sample": self.do_sample,
            "penalty_alpha": bool(self.penalty_alpha),
            "prompt_lookup_num_tokens": self.prompt_lookup_num_tokens is not None,
        }
        chosen = [name for name, is_on in strategies.items() if is_on]
        if len(chosen) > 1:
            self._refuse(f"{chosen[0]} and {chosen[1]} are two ways to choose tokens. Give one of them.")
        if self.num_beams % self.num_beam_groups:
            self._refuse(f"num_beams={self.num_beams} must be a multiple of num_beam_groups={self.num_beam_groups}.")
        if self.num_return_sequences > 1 and not self.draws and self.num_return_sequences > self.num_beams:
            self._refuse(
                f"num_return_sequences={self.num_return_sequences} needs do_sample=True, or as many num_beams; "
                f"num_beams is {self.num_beams}."
            )
        if self.penalty_alpha and (self.top_k or 0) < 2:
            self._refuse("penalty_alpha, contrastive search, needs top_k of at least 2 candidates, such as top_k=4.")
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            self._refuse(f"min_new_tokens={self.min_new_tokens} is more than max_new_tokens={self.max_new_tokens}.")
        if any(not words for words in self.bad_words_ids or ()):
            self._refuse("bad_words_ids, or what bad_words are made of, has a word without tokens. Leave that out.")
        for name in ("stop", "bad_words"):
            if any(not text for text in getattr(self, name)):
                self._refuse(f"{name} has an empty text. Leave it out.")

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn, so that other seeds give other texts."""
        return self.do_sample and self.temperature > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what differs from the defaults."""
        usual = type(self)()
        return {name: getattr(self, name) for name in self.fields() if getattr(self, name) != getattr(usual, name)}

    def changed(self, options: Mapping[str, Any]) -> Self:
        """A copy with other values. Whoever asks for one way to choose tokens does not mean another one set before.

        Raises:
            OptionError: For a wrong value.
        """
        values = {name: getattr(self, name) for name in self.fields()}
        if any(options.get(name, default) != default for name, default in STRATEGIES.items()):
            values |= {**STRATEGIES} | (
                {} if "num_beams" in options else {"num_beam_groups": 1, "diversity_penalty": 0.0}
            )
        if "max_length" in options:
            values["max_new_tokens"] = None
        values |= options
        for name in ("stop", "bad_words"):
            if isinstance(values[name], str):
                values[name] = [values[name]]
        try:
            changed = type(self)(**values)
        except ConfigError as error:
            message = str(error)
            for mark in (f"{type(self).__name__}.", f"{type(self).__name__}: "):
                message = message.removeprefix(mark)
            raise OptionError(message) from None
        changed._refuse_needless(options)
        return changed

    def _refuse_needless(self, options: Mapping[str, Any]) -> None:
        """Raises an OptionError for an option of a call that would change nothing."""
        usual = GenerationConfig()
        given = {name for name, value in options.items() if name in self.needs and value != usual.get(name)}
        for name in sorted(given):
            wanted, is_on = self.needs[name]
            if not is_on(self):
                raise OptionError(f"{name} is {options[name]!r:.100}, which needs {wanted}. Add that, or leave it out.")

    def _refuse(self, problem: str) -> None:
        raise ConfigError(f"{type(self).__name__}: {problem}")


STRATEGIES: Mapping[str, Any] = {
    "num_beams": 1, "do_sample": False, "penalty_alpha": None, "prompt_lookup_num_tokens": None,
}  # fmt: skip
"""What chooses tokens in another way than greedy, and its value where it does not."""


@cache
def generation_field(config_class: type[Config]) -> tuple[str, type[GenerationConfig]] | None:
    """The field of a model's config that holds its options of generation, and their class; None where it has none."""
    hints = get_type_hints(config_class)
    for name in config_class.fields():
        kind = hints.get(name)
        if isinstance(kind, type) and issubclass(kind, GenerationConfig):
            return name, kind
    return None
