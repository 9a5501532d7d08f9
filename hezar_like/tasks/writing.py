"""What all tasks share that write tokens: options, generation, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones import EncoderDecoder, as_output
from ..configs import ModelConfig
from ..engine import prediction
from ..engine.batches import Batch
from ..engine.running import accelerated
from ..errors import OptionError
from ..generation import (
    GenerationConfig,
    Processor,
    Result,
    Steps,
    StopTexts,
    TextStream,
    finish,
    generation_field,
    write,
)
from ..outputs import GenerationOutput
from .task import Task

DEFAULT_NEW_TOKENS = 50
OF_FORWARD = frozenset({
    "labels", "loss_mask", "past_key_values", "use_cache", "output_hidden_states", "output_attentions",
})  # fmt: skip
"""What says something to `forward`, and nothing to `generate`."""


@dataclass
class WritingConfig(ModelConfig):
    """What a model that writes has beside its family's config."""

    generation: GenerationConfig = field(default_factory=GenerationConfig)
    """How it writes where the caller does not say."""


class WritingTask(Task):
    """Base of tasks whose models write tokens. Its config has a field that is a `GenerationConfig`."""

    is_generative = True
    forward_options: ClassVar[tuple[str, ...] | None] = (*GenerationConfig.fields(), "return_scores")

    @torch.no_grad()
    def generate(
        self, *args: Any, return_dict: bool = False, return_scores: bool = False, **inputs: Any
    ) -> Tensor | GenerationOutput:
        """Writes texts.

        Args:
            *args: For the backbone's `forward`, as is everything else that is no option.
            return_dict: Return all that is known of them.
            return_scores: Also find out the log-probabilities of greedy search and of samples.
            **inputs: See the backbone's `forward`, and `GenerationConfig` for the options; rows of a decoder are padded
                on the left. An encoder with a decoder goes on from `decoder_input_ids` where they are given.

        Returns:
            [inputs * sequences, length] int64: the input of the decoder, and what was written; after the end, the end
            token again. Of an encoder by itself only what was written; for blanks the pieces that fill them, with their
            start.

        Raises:
            OptionError: When there are no tokens to go on from, or too few positions, or for a wrong option.
        """
        known = self.generation.fields()
        options = {name: inputs.pop(name) for name in known if name in inputs}
        given = self.named(args, inputs, also=known)
        config = self._options(options)
        if "encoder_outputs" in given:
            given["encoder_outputs"] = as_output(given["encoder_outputs"])
        for name in ("token_ids", "decoder_input_ids"):
            if given.get(name) is not None:
                _check_tokens(name, given[name], self.config.get("vocab_size"))
        parts = self._parts(given, config)
        with torch.inference_mode(), accelerated(self):  # operations take less time to start
            output = _together([finish(self.steps(part, config, scored=return_scores)) for part, _ in parts])
        output = GenerationOutput(*(value.clone() for value in output.values()))  # and are no longer bound to that mode
        return output if return_dict else output.sequences

    def steps(self, inputs: Mapping[str, Any], config: GenerationConfig, *, scored: bool = False) -> Steps:
        """A search that is about to begin; see `generate` and `Steps`.

        Args:
            inputs: Of the backbone's `forward`, by name.
            config: The options.
            scored: Whether log-probabilities are wanted.
        """
        assert self.head is not None
        lacks = "token_ids" not in inputs and not isinstance(self.backbone, EncoderDecoder)
        if lacks or (own := OF_FORWARD & inputs.keys()):
            wrong = "needs 'token_ids'" if lacks else f"takes no {min(own)!r}"
            raise OptionError(f"generate() {wrong}: it goes on from tokens.")
        start, rows = config.decoder_start_token_id, _rows(inputs)
        if start is not None and start >= self.config.get("vocab_size", start + 1):
            raise OptionError(f"decoder_start_token_id is {start}; this model has {self.config['vocab_size']} tokens.")
        if start is not None and isinstance(self.backbone, EncoderDecoder) and "decoder_input_ids" not in inputs:
            first = torch.full((rows, 1), start, device=self.device)
            inputs = {**inputs, "decoder_input_ids": first}
        writer = self.backbone.writer(inputs)
        for name in ("stop", "eos_token_id") if writer.goes_on else ():
            if getattr(config, name):
                raise OptionError(
                    f"{name} cannot be given to a model that fills blanks: its pieces have their own end."
                )
        return write(
            writer,
            self.head,
            config,
            inputs=rows,
            ends=self.end_tokens(config),
            room=self._room(writer.room, config),
            stop=StopTexts(config.stop, self._tokenizer().decode) if config.stop else None,
            scored=scored,
            rules=self.rules(config),
        )

    def rules(self, config: GenerationConfig) -> Sequence[Processor]:
        """Rules for scores that the task has beside those of the options; overridden by tasks."""
        return ()

    def stream(
        self,
        inputs: Any,
        *,
        batch_size: int | Literal["auto"] = "auto",
        device: str | torch.device | None = None,
        **options: Any,
    ) -> Iterator[tuple[int, str]]:
        """Yields what is written as it comes: the number of the input, and whole characters of its text.

        The pieces of an input make up its new text, as `predict` returns it; inputs of a batch take turns.

        Args:
            inputs: One input, or any iterable of inputs.
            batch_size: The most inputs at once; "auto" chooses by their lengths.
            device: Moves the model there first, and leaves it there.
            **options: As of `predict`.

        Raises:
            OptionError: With beams or several sequences, which are known only at the end; else see `predict`.
        """
        config = self._options(options, known=True)
        if options.get("return_scores"):
            raise OptionError("stream() gives out texts and no scores. Leave return_scores out, or use predict().")
        for name in ("num_beams", "num_return_sequences"):
            if getattr(config, name) > 1:
                raise OptionError(
                    f"{name} is {getattr(config, name)}, but stream() gives out what is written at once and for good. "
                    f"Use {name}=1, or predict()."
                )
        return prediction.stream_pieces(self, inputs, batch_size, device, options)

    def write(self, inputs: Mapping[str, Any], *, batch: Batch, **options: Any) -> Iterator[list[tuple[int, str]]]:
        """Writes, and yields what comes in each step, with the numbers of the rows: whole characters.

        Args:
            inputs: Of `generate`, by name.
            batch: Which they are of.
            **options: Of `generate`.
        """
        config, tokenizer = self._options(options, known=True), self._tokenizer()
        given = self.named((), {key: value for key, value in inputs.items() if key in (self.input_names or ())})
        blanks = self.backbone.blanks
        ends = self.end_tokens(config) if blanks is None else blanks.ends
        streams = [TextStream(tokenizer.decode, read, ends, config.stop) for read in self.read_tokens(batch)]
        for part, rows in self._parts(given, config):
            for step in self.steps(part, config):
                new = [[token for token in tokens if token >= 0] for tokens in step.tolist()]
                yield [(row, piece) for row, own in zip(rows, new, strict=True) if (piece := streams[row].add(own))]
            yield [(row, piece) for row in rows if (piece := streams[row].close())]

    def read_tokens(self, batch: Batch) -> list[list[int]]:
        """The tokens before what is written, where these are part of the text; overridden by tasks."""
        return [[] for _ in batch.rows]

    def _parts(self, inputs: Mapping[str, Any], config: GenerationConfig) -> list[tuple[Mapping[str, Any], range]]:
        """What is written at once, with the rows it is of."""
        rows = _rows(inputs)
        if config.prompt_lookup_num_tokens is None or rows <= 1:
            return [(inputs, range(rows))]
        # Rows would accept unequal numbers of guesses.
        return [
            ({name: _row(name, value, row) for name, value in inputs.items()}, range(row, row + 1))
            for row in range(rows)
        ]

    def run(self, batch: Any, **options: Any) -> Any:
        """Several sequences of an input are a dimension of their own."""
        output, count = super().run(batch, **options), self._options(options, known=True).num_return_sequences
        return output.unflatten(0, (-1, count)) if count > 1 else output

    def infer(self, batch: Any, **options: Any) -> Any:
        return super().run(batch, **options, return_dict=True)

    # -- options ----------------------------------------------------------------------------------------------------

    def _options(self, options: Mapping[str, Any], *, known: bool = False) -> GenerationConfig:
        """The model's options of generation with the caller's.

        Args:
            options: The caller's.
            known: Whether there may be others among them, which are left out.
        """
        own = self.generation
        if known:
            options = {name: value for name, value in options.items() if name in own.fields()}
        if options.get("decoder_start_token_id") is not None and not isinstance(self.backbone, EncoderDecoder):
            raise OptionError(
                "decoder_start_token_id is for encoders with decoders; this model goes on from its input."
            )
        config = own.changed(options) if options else own
        if config.bad_words:
            texts = [form for word in config.bad_words for form in (word, f" {word}")]
            ids = self._tokenizer().encode_texts(texts)
            words = [[row.ids[i] for i in row.content] for row in ids]
            config = config.changed({"bad_words": [], "bad_words_ids": [*(config.bad_words_ids or ()), *words]})
        return config

    @property
    def generation(self) -> GenerationConfig:
        """How it writes where the caller does not say: that field of the config."""
        found = generation_field(type(self.config))
        assert found is not None
        own: GenerationConfig = self.config[found[0]]
        return own

    @property
    def _usual_new_tokens(self) -> int:
        """How many tokens are written where the caller does not say."""
        limit, own = self.backbone.max_tokens, self.generation
        wanted = own.max_new_tokens or own.max_length or DEFAULT_NEW_TOKENS
        return wanted if limit is None else max(1, min(wanted, limit // 2))

    def _room(self, room: int | None, config: GenerationConfig) -> int:
        """How many tokens to write at most where there is room for so many; None for any number."""
        asked, own = config.max_new_tokens, self.generation.max_new_tokens
        if asked is None and config.max_length is not None:
            return config.max_length if room is None else room
        if room is None:
            return asked or self._usual_new_tokens
        if asked is not None and asked != own and asked > room:
            raise OptionError(
                f"max_new_tokens is {asked}, but this model has positions for {room} tokens more. "
                "Ask for fewer, or give shorter texts."
            )
        return min(asked or self._usual_new_tokens, room)

    def end_tokens(self, config: GenerationConfig) -> list[int]:
        """The tokens that end a text."""
        ends, tokenizer = config.eos_token_id, self.preprocessor.tokenizer
        if ends is None:
            ends = self.config.get("eos_token_id")
        if ends is None and tokenizer is not None:
            ends = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]


def _check_tokens(name: str, tokens: Any, size: int | None) -> None:
    """Checks tokens that a caller made; torch would tell neither their name nor which are wrong."""
    if not isinstance(tokens, Tensor) or tokens.is_floating_point():
        kind = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
        raise OptionError(f"{name} is of the type {kind}; generate() needs a tensor of integers, [batch, length].")
    if tokens.ndim != 2 or not len(tokens):
        raise OptionError(f"{name} has the shape {list(tokens.shape)}; generate() needs [batch, length], not empty.")
    if size is not None and tokens.numel() and not tokens.is_meta:
        for token in map(int, tokens.aminmax()):
            if not 0 <= token < size:
                raise OptionError(f"{name} has the token {token}; this model has the tokens 0 to {size - 1}.")


def _rows(inputs: Mapping[str, Any]) -> int:
    """Number of inputs in a batch."""
    encoded = inputs.get("encoder_outputs")
    values = encoded.values() if isinstance(encoded, Mapping) else inputs.values()
    return next((len(value) for value in values if isinstance(value, Tensor)), 0)


def _row(name: str, value: Any, row: int) -> Any:
    """One row of an input; what is the same for all rows stays."""
    if isinstance(value, Mapping):
        return type(value)(**{key: _row(key, part, row) for key, part in value.items() if isinstance(part, Tensor)})
    own = isinstance(value, Tensor) and value.ndim > 0 and len(value) > 1 and not name.endswith("head_mask")
    return value[row : row + 1] if own else value


def _together(results: list[Result]) -> GenerationOutput:
    """The results of several searches, one row for each sequence."""
    longest = max(result.tokens.size(2) for result in results)
    most = max(result.token_scores.size(2) for result in results)
    tokens = [F.pad(result.tokens, (0, longest - result.tokens.size(2)), value=result.end) for result in results]
    found = [F.pad(result.token_scores, (0, most - result.token_scores.size(2))) for result in results]
    return GenerationOutput(
        torch.cat(tokens).flatten(0, 1),
        torch.cat([result.lengths for result in results]).flatten(),
        torch.cat([result.ended for result in results]).flatten(),
        torch.cat([result.scores for result in results]).flatten(),
        torch.cat(found).flatten(0, 1),
    )
