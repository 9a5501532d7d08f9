"""The options of speech recognition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from ..errors import OptionError
from ..fields import Between, Count, Probability, TokenId
from ..generation import GenerationConfig
from ..preprocessors.whisper_vocabulary import language_code

if TYPE_CHECKING:
    from ..preprocessors.whisper_tokenizer import WhisperBPETokenizer

__all__ = ["SpeechGenerationConfig", "check_for_recordings", "prompt_of", "told_by"]

Temperature = Annotated[float, Between(0, 1e6)]
Ratio = Annotated[float, Between(0, 1e6)]
LogProbability = Annotated[float, Between(-1e6, 0)]
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
ONLY_FOR_WINDOWS: Mapping[str, str] = {
    "num_return_sequences": "writes one text for each",
    "stop": "writes all that is said",
    "prompt_lookup_num_tokens": "writes for several windows at once",
}
"""Options with which windows can be written for, but not recordings, and why."""


@dataclass(kw_only=True)
class SpeechGenerationConfig(GenerationConfig):
    """What decides which tokens are written for speech, and what they stand for; the names are transformers'."""

    language: str | None = None
    """The language that is spoken, such as "en" or "english"; None: the one the model hears in the first window."""
    task: Literal["transcribe", "translate"] | None = None
    """Whether to write what was said as it was, or in English; None: as it was."""
    return_timestamps: bool | Literal["word"] = False
    """Whether the model writes when segments begin and end; "word": find out when each word is spoken, too. It writes
    so anyway where a recording is longer than a window: the next window begins there."""
    prompt: str | None = None
    """A text that is taken for what was said before: names and words that come up, or how to write."""
    condition_on_previous_text: bool = True
    """Whether a window is told what was said before it."""
    windows: Literal["sequential", "parallel"] = "sequential"
    """How a long recording is cut: each window begins where the segments of the one before end, or at quiet places, so
    that all are read at once. Those know nothing of each other."""
    temperature: Temperature | list[Temperature] = field(default_factory=lambda: list(TEMPERATURES))  # type: ignore[assignment]
    """What scores are divided by before tokens are drawn, 0: take the best ones; each is tried when what was written
    before is too improbable or repeats itself."""
    best_of: Annotated[int, Between(1, 1000)] = 5
    """Of so many texts the most probable one is taken, where tokens are drawn."""
    compression_ratio_threshold: Ratio | None = 2.4
    """A text that zlib makes shorter than by this factor does not repeat itself; None: any may."""
    logprob_threshold: LogProbability | None = -1.0
    """Texts whose tokens have a smaller mean log-probability are improbable; None: none are."""
    no_speech_threshold: Probability | None = 0.6
    """From which probability on that nobody speaks an improbable text is taken for silence; None: none is."""
    seed: Annotated[int, Between(0, 2**63 - 1)] | None = 0
    """Makes what is drawn depend on nothing but the recording and this; None: on chance."""
    is_multilingual: bool = True
    """Whether the model knows several languages, and so is told the language and the task."""
    lang_to_id: dict[str, TokenId] = field(default_factory=dict)
    """The token of each language, by names such as "<|en|>"."""
    task_to_id: dict[str, TokenId] = field(default_factory=dict)
    """The token of each task."""
    no_timestamps_token_id: TokenId | None = None
    """The token that says that no times are written; those after it are the times."""
    prev_sot_token_id: TokenId | None = None
    """The token before what was said earlier, or a prompt."""
    max_initial_timestamp_index: Count | None = None
    """The first segment begins at the latest so many fiftieths of a second after the beginning; None: anywhere."""
    alignment_heads: list[tuple[Count, Count]] | None = None
    """The decoder's blocks and attention heads that look where a word is spoken; None: all heads of its upper half."""
    median_filter_width: Annotated[int, Between(1, 1001)] = 7
    """Over how many neighbours what these heads see is smoothed."""
    forced_decoder_ids: list[tuple[Count, TokenId | None]] | None = None
    """Places and the tokens that stand there, as older models name their language and task; None: any token."""
    pad_token_id: TokenId | None = None
    """The padding token; None: the model's."""
    bos_token_id: TokenId | None = None
    """The token other systems call the first; it is not written."""

    # Here a temperature says by itself whether tokens are drawn.
    needs: ClassVar[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
        **{name: need for name, need in GenerationConfig.needs.items() if name != "temperature"},
        **{
            name: ("a temperature above 0", lambda c: any(c.temperatures))
            for name in ("top_p", "min_p", "typical_p", "seed")
        },
        "top_k": ("a temperature above 0, or penalty_alpha", lambda c: any(c.temperatures) or bool(c.penalty_alpha)),
    }

    def check(self) -> None:
        super().check()
        if self.median_filter_width % 2 == 0:
            self._refuse(f"median_filter_width={self.median_filter_width} must be odd, so that there is a middle.")
        if self.temperature == []:
            self._refuse("temperature is an empty list. Give one temperature or several, such as [0.0, 0.5].")
        if self.language is not None:
            try:
                language_code(self.language)
            except OptionError as error:
                self._refuse(str(error))

    @property
    def temperatures(self) -> list[float]:
        """The temperatures to try, in order."""
        return self.temperature if isinstance(self.temperature, list) else [self.temperature]

    @property
    def draws(self) -> bool:
        return self.do_sample and self.temperatures != [0.0]

    def at_one_temperature(self) -> Self:
        """These options as a search takes them, which knows no other tries.

        Raises:
            OptionError: When tokens are to be drawn, and there are several temperatures.
        """
        if not isinstance(self.temperature, list):
            return self
        if self.do_sample and len(self.temperature) > 1:
            raise OptionError(
                f"temperature is {self.temperature!s:.100}, but generate() draws at one temperature. "
                "Give one, such as temperature=0.7."
            )
        return self.changed({"temperature": self.temperature[0]})

    def changed(self, options: Mapping[str, Any]) -> Self:
        if isinstance(options.get("temperature"), tuple):
            options = {**options, "temperature": list(options["temperature"])}
        return super().changed(options)

    @property
    def first_time(self) -> int:
        """The token of the time 0.

        Raises:
            OptionError: When the model's files do not tell it.
        """
        if self.no_timestamps_token_id is None:
            raise OptionError(
                "this model has no no_timestamps_token_id in its generation_config, so it writes no times."
            )
        return self.no_timestamps_token_id + 1

    @property
    def languages(self) -> dict[str, int]:
        """The tokens of the languages by code; none where the model knows only one."""
        if not self.is_multilingual:
            return {}
        return {name.removeprefix("<|").removesuffix("|>"): token for name, token in self.lang_to_id.items()}

    def language_token(self) -> int | None:
        """The token of the language that is asked for; None where it must be found out, or the model knows only one.

        Raises:
            OptionError: When the model does not know the language, or cannot translate.
        """
        languages, forced = self.languages, dict(self.forced_decoder_ids or ())
        if not languages:
            if self.task == "translate" or (self.language is not None and language_code(self.language) != "en"):
                asked = "task='translate'" if self.task == "translate" else f"language={self.language!r:.100}"
                raise OptionError(f"{asked}: this model knows one language only. Leave it out, or load another model.")
            return None
        if self.language is None:
            return forced[1] if forced.get(1) in languages.values() else None
        code = language_code(self.language)
        if code not in languages:
            raise OptionError(f"language={self.language!r:.100}: this model does not know it. Load another model.")
        return languages[code]

    def task_token(self) -> int | None:
        """The token of the task; None where the model knows only one."""
        if not self.languages or not self.task_to_id:
            return None
        forced = dict(self.forced_decoder_ids or ()).get(2)
        if self.task is None and forced in self.task_to_id.values():
            return forced
        return self.task_to_id[self.task or "transcribe"]


def check_for_recordings(config: SpeechGenerationConfig) -> None:
    """Refuses options that make no sense for recordings, of which several windows are written one after the other.

    Raises:
        OptionError: When there is such an option.
    """
    given = config.to_dict()
    for name, reason in ONLY_FOR_WINDOWS.items():
        if name in given:
            raise OptionError(
                f"{name} is {given[name]!r:.100}, but predict() {reason}, as stream() does. "
                "Leave it out, or use generate() with features of windows."
            )


def prompt_of(
    config: SpeechGenerationConfig, start: int, language: int | None, *, timed: bool, before: Sequence[int] = ()
) -> list[int]:
    """The tokens that a decoder begins with.

    Args:
        config: The options.
        start: The token every output starts from.
        language: The token of the language.
        timed: Whether times are to be written.
        before: What was said before.
    """
    earlier = [] if not before or config.prev_sot_token_id is None else [config.prev_sot_token_id, *before]
    asked = [token for token in (language, config.task_token()) if token is not None]
    untimed = [] if timed or config.no_timestamps_token_id is None else [config.no_timestamps_token_id]
    return [*earlier, start, *asked, *untimed]


def told_by(tokenizer: WhisperBPETokenizer, config: SpeechGenerationConfig) -> dict[str, Any]:
    """What the vocabulary tells where the model's files do not."""
    changes: dict[str, Any] = {}
    if config.no_timestamps_token_id is None:
        changes["no_timestamps_token_id"] = tokenizer.no_timestamps_id
    if config.prev_sot_token_id is None:
        changes["prev_sot_token_id"] = tokenizer.start_of_previous_id
    if config.is_multilingual and not config.lang_to_id and tokenizer.is_multilingual:
        changes["lang_to_id"] = {f"<|{code}|>": token for code, token in tokenizer.language_ids.items()}
    if config.is_multilingual and not config.task_to_id and tokenizer.is_multilingual:
        changes["task_to_id"] = {"transcribe": tokenizer.transcribe_id, "translate": tokenizer.translate_id}
    if config.suppress_tokens is None:
        others = ("<|nospeech|>", "<|nocaptions|>", "<|startoflm|>")
        ids = [tokenizer.start_id, tokenizer.start_of_previous_id, tokenizer.transcribe_id, tokenizer.translate_id]
        ids += [token for token in map(tokenizer.token_to_id, others) if token is not None]
        changes["suppress_tokens"] = sorted({*tokenizer.non_speech_tokens, *ids})
    if config.begin_suppress_tokens is None:
        (space,) = tokenizer.encode_texts([" "], add_special_tokens=False)
        changes["begin_suppress_tokens"] = [*space.ids, tokenizer.end_id]
    return changes
