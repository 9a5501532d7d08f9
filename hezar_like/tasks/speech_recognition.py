"""Speech recognition: what is said in a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from ..backbones import EncoderDecoder, as_output
from ..configs import ModelConfig
from ..engine import prediction
from ..engine.progress import seconds_bar
from ..engine.routing import check_positive
from ..errors import OptionError, PreprocessorError
from ..generation import GenerationConfig, Processor, Steps
from ..generation.timestamps import timestamp_rules
from ..outputs import ClassifierOutput
from ..preprocessors.audio_features import WhisperFeatureExtractor
from ..preprocessors.whisper_tokenizer import WhisperBPETokenizer
from .scoring import token_loss
from .speech_batch import SpeechBatch
from .speech_options import SpeechGenerationConfig, check_for_recordings, prompt_of, told_by
from .speech_records import SHOWN, Chunk, Shown, SpokenWord, Transcript
from .speech_segments import Speech
from .speech_transcription import LONGEST_BEGINNING, Transcription
from .speech_words import check_heads
from .task import register_task
from .writing import DEFAULT_NEW_TOKENS, WritingTask

if TYPE_CHECKING:
    pass

__all__ = [
    "Chunk",
    "SpeechGenerationConfig",
    "SpeechRecognition",
    "SpeechRecognitionConfig",
    "SpokenWord",
    "Transcript",
]


@dataclass
class SpeechRecognitionConfig(ModelConfig):
    """Config of speech recognition.

    Attributes:
        generation_config: How it writes when a call does not say.
    """

    generation_config: SpeechGenerationConfig = field(default_factory=SpeechGenerationConfig)


@register_task(
    "speech_recognition",
    SpeechRecognitionConfig,
    "what is said in recordings",
    aliases=("automatic_speech_recognition", "asr"),
    endings=("ForConditionalGeneration",),
    pipeline_tag="automatic-speech-recognition",
)
class SpeechRecognition(WritingTask):
    """Writes what is said in recordings of any length.

    An input is what `read_audio` takes: a path, the bytes of a file, an array or tensor of samples, or a mapping with
    "array" and "sampling_rate". The options of `predict` are the fields of `SpeechGenerationConfig`.
    """

    forward_options: ClassVar[tuple[str, ...] | None] = (*SpeechGenerationConfig.fields(), *SHOWN)

    def forward(self, *, labels: Tensor | None = None, **inputs: Any) -> ClassifierOutput:
        """Scores.

        Args:
            labels: Token ids of what is said, without the start token, [batch, length] int64, -100 for those that do
                not count; then the output has a loss. The decoder's input is made of them where it is not given.
            **inputs: See the backbone's `forward`.

        Raises:
            OptionError: When nothing says what was written so far.
        """
        backbone = self._backbone
        assert self.head is not None
        if not {"decoder_input_ids", "decoder_inputs_embeds"} & inputs.keys():
            if labels is None:
                raise OptionError("give decoder_input_ids, decoder_inputs_embeds, or labels; or call generate().")
            inputs["decoder_input_ids"] = backbone.shifted(labels)
        output = backbone(**inputs)
        logits = self.head(output.last_hidden_state)
        return ClassifierOutput.of(output, logits, None if labels is None else token_loss(logits, labels))

    # -- predicting ---------------------------------------------------------------------------------------------------

    def predict(
        self,
        inputs: Any,
        *,
        batch_size: int | Literal["auto"] = "auto",
        progress: bool | Literal["auto"] = "auto",
        device: str | torch.device | None = None,
        preprocess: bool = True,
        post_process: bool = True,
        **options: Any,
    ) -> list[Transcript]:
        """Writes what is said in recordings; see `Model.predict`.

        Args:
            inputs: One recording, or any iterable of recordings.
            batch_size: How many windows are read at once; "auto": 8 on a CPU, 24 elsewhere.
            progress: Whether to show a bar, which counts seconds of audio; "auto" does on a terminal when it takes
                long.
            device: Moves the model there first, and leaves it there.
            preprocess: False when `inputs` is what `preprocess` returned, or features of windows by the name
                `input_features`, [windows, bins, frames].
            post_process: False for a `Speech` for each input, with tokens in place of texts.
            **options: See `SpeechGenerationConfig`, `preprocess` and `post_process`.

        Raises:
            InputError: For a recording that cannot be read, with its number.
            OptionError: For an option nobody takes or a wrong value.
        """
        with seconds_bar(progress) as report:
            if preprocess:
                inputs, options = self._listed(inputs), {"report": report, **self._limited(batch_size), **options}
            return super().predict(
                inputs,
                batch_size=batch_size,
                progress=False,
                device=device,
                preprocess=preprocess,
                post_process=post_process,
                **options,
            )

    def stream(  # type: ignore[override]  # it gives chunks, not pieces of texts
        self,
        inputs: Any,
        *,
        batch_size: int | Literal["auto"] = "auto",
        device: str | torch.device | None = None,
        **options: Any,
    ) -> Iterator[tuple[int, Chunk]]:
        """Yields what is said as soon as a window is read: the number of the recording, and a chunk of it.

        The chunks of a recording come in order; recordings take turns.

        Args:
            inputs: One recording, or any iterable of recordings.
            batch_size: How many windows are read at once.
            device: Moves the model there first, and leaves it there.
            **options: As of `predict`.

        Raises:
            OptionError: See `predict`, as for the others.
        """
        self._options_for_recordings(options)  # wrong ones are told at once
        options = {**self._limited(batch_size), **options}
        return prediction.stream_pieces(self, self._listed(inputs), batch_size, device, options)

    def is_one_input(self, inputs: Any) -> bool:
        """See `Model.is_one_input`; an array is one recording."""
        return (
            hasattr(inputs, "__array_interface__")
            or isinstance(inputs, bytearray | memoryview)
            or super().is_one_input(inputs)
        )

    def preprocess(
        self,
        inputs: Any,
        *,
        sampling_rate: int | None = None,
        window_limit: int | None = None,
        report: Callable[[float, float], None] | None = None,
    ) -> SpeechBatch:
        """Opens recordings; they are read when it is their turn.

        Args:
            inputs: One recording or a list of them.
            sampling_rate: Of arrays that come without one, in Hz; default for floats: the model's, 16000.
            window_limit: How many windows are read at once; default: see `predict`.
            report: Is called now and then with how many more seconds of audio are done, and how many more there are.

        Raises:
            InputError: For a recording that cannot be opened, with its number.
            PreprocessorError: When the model has no feature extractor.
        """
        if window_limit is not None:
            check_positive("window_limit", window_limit)
        extractor, one = self._extractor(), self.is_one_input(inputs)
        items = [inputs] if one else inputs
        opened = [extractor.recording(item, sampling_rate, index) for index, item in enumerate(items)]
        return SpeechBatch(opened, extractor, window_limit, report)

    def run(self, batch: Any, **options: Any) -> Any:
        """Transcribes what `preprocess` made, a `Speech` for each recording; features of windows may be given too."""
        transcription = self._transcription(batch, options)
        for _ in transcription.segments():
            pass
        return transcription.speeches

    def infer(self, batch: Any, **options: Any) -> Any:
        return self.run(batch, **options)

    def write(self, inputs: Any, *, batch: Any, **options: Any) -> Iterator[list[tuple[int, Any]]]:
        """Transcribes, and yields chunks with the number of their recording; see `stream`."""
        transcription = self._transcription(batch, options)
        show = Shown(self._whisper_tokenizer(), **{name: options[name] for name in SHOWN if name in options})
        for row, segment in transcription.segments():
            yield [(row, show.chunk(segment))]

    def post_process(
        self,
        outputs: Sequence[Speech],
        *,
        skip_special_tokens: bool = True,
        decode_with_timestamps: bool = False,
        return_scores: bool = False,
    ) -> list[Transcript]:
        """Tokens to texts.

        Args:
            outputs: What is said in each recording.
            skip_special_tokens: Whether special tokens are left out of texts.
            decode_with_timestamps: Whether times are written in texts, as <|1.08|>, where the model wrote them.
            return_scores: Add probabilities to the records.
        """
        tokenizer = self._whisper_tokenizer()
        show = Shown(tokenizer, skip_special_tokens, decode_with_timestamps, return_scores)
        return [show.transcript(speech) for speech in outputs]

    def _listed(self, inputs: Any) -> Any:
        return [inputs] if self.is_one_input(inputs) else inputs

    def _limited(self, batch_size: int | str) -> dict[str, Any]:
        return {} if isinstance(batch_size, str) else {"window_limit": batch_size}

    def _transcription(self, batch: Any, options: Mapping[str, Any]) -> Transcription:
        tokenizer, config = self._whisper_tokenizer(), self._options_for_recordings(options)
        if not isinstance(batch, SpeechBatch):
            if not isinstance(batch, Mapping) or not isinstance(features := batch.get("input_features"), Tensor):
                raise OptionError("with preprocess=False, give what preprocess() returned, or {'input_features': ...}.")
            batch = SpeechBatch(list(features), self._extractor())
        return Transcription(self, config, tokenizer, batch)

    def _options_for_recordings(self, options: Mapping[str, Any]) -> SpeechGenerationConfig:
        config = self._options(options, known=True)
        check_for_recordings(config)
        if config.return_timestamps == "word":
            check_heads(config.alignment_heads, self._backbone)
        return config

    # -- writing ------------------------------------------------------------------------------------------------------

    def steps(self, inputs: Mapping[str, Any], config: GenerationConfig, *, scored: bool = False) -> Steps:
        """See `WritingTask.steps`; what the decoder begins with says language and task, where it is not given."""
        assert isinstance(config, SpeechGenerationConfig)
        config, inputs = config.at_one_temperature(), self._backbone.read(inputs)
        encoded = as_output(inputs["encoder_outputs"])
        inputs = {**inputs, "encoder_outputs": encoded}
        if "decoder_input_ids" not in inputs:
            states = encoded.last_hidden_state
            language = config.language_token()
            languages = [language] * len(states)
            if config.languages and language is None:
                languages = [token for token, _ in self.languages_of(states, config)]
            start, timed = self.start_token(config), bool(config.return_timestamps)
            prompts = [prompt_of(config, start, token, timed=timed) for token in languages]
            inputs = {**inputs, "decoder_input_ids": torch.tensor(prompts, device=self.device).view(len(states), -1)}
        return super().steps(inputs, config, scored=scored)

    def rules(self, config: GenerationConfig) -> Sequence[Processor]:
        assert isinstance(config, SpeechGenerationConfig)
        if not config.return_timestamps:
            return ()
        end = self.end_tokens(config)
        if not end:
            raise OptionError("return_timestamps needs an eos_token_id, which tells texts and times apart.")
        return (timestamp_rules(config.first_time, end[0], config.max_initial_timestamp_index),)

    def languages_of(self, states: Tensor, config: SpeechGenerationConfig) -> list[tuple[int, float]]:
        """Which language is spoken in windows.

        Args:
            states: What the encoder made of them, [windows, length, width].
            config: Has the tokens of the languages.

        Returns:
            Its token for each window, and how probable it is among all languages.
        """
        assert self.head is not None
        start = torch.full((len(states), 1), self.start_token(config), device=states.device)
        ids = list(config.languages.values())
        scores = self.head(self._backbone.decode(states, start).last_hidden_state)[:, -1, ids].float().softmax(-1)
        best = scores.max(-1)
        return [(ids[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]

    def start_token(self, config: GenerationConfig) -> int:
        """The token every output starts from."""
        own = config.decoder_start_token_id
        return self._backbone.decoder_start_token_id if own is None else own

    def new_tokens(self, config: GenerationConfig) -> int:
        """How many tokens are written for a window at most."""
        most, beginning = self._backbone.max_written, LONGEST_BEGINNING
        wanted = config.max_new_tokens
        if wanted is None and config.max_length is not None and config.max_length < (most or config.max_length + 1):
            wanted = max(1, config.max_length - beginning)
        if wanted is None:
            return self._usual_new_tokens
        if most is not None and wanted > most - beginning:
            raise OptionError(f"max_new_tokens is {wanted}, but this model writes at most {most - beginning}.")
        return wanted

    @property
    def _usual_new_tokens(self) -> int:
        most = self._backbone.max_written
        return DEFAULT_NEW_TOKENS if most is None else max(1, most // 2 - LONGEST_BEGINNING)

    def _options(self, options: Mapping[str, Any], *, known: bool = False) -> SpeechGenerationConfig:
        config = super()._options(options, known=known)
        assert isinstance(config, SpeechGenerationConfig)
        tokenizer = self.preprocessor.tokenizer
        if not isinstance(tokenizer, WhisperBPETokenizer):
            return config
        return config.changed(told_by(tokenizer, config))

    # -- parts --------------------------------------------------------------------------------------------------------

    @property
    def _backbone(self) -> EncoderDecoder:
        assert isinstance(self.backbone, EncoderDecoder)
        return self.backbone

    def _whisper_tokenizer(self) -> WhisperBPETokenizer:
        tokenizer = self._tokenizer()
        if not isinstance(tokenizer, WhisperBPETokenizer):
            raise PreprocessorError(
                f"the tokenizer is a {tokenizer.config.name!r}; speech recognition needs a 'whisper_bpe_tokenizer'."
            )
        return tokenizer

    def _extractor(self) -> WhisperFeatureExtractor:
        found = [item for item in self.preprocessor.values() if isinstance(item, WhisperFeatureExtractor)]
        if not found:
            raise PreprocessorError(
                f"{self.config.name!r} has no feature extractor. Load one with it, or set model.preprocessor to a "
                "tokenizer and a feature extractor."
            )
        return found[0]
