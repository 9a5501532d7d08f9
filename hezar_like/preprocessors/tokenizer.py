"""The tokenizer as a preprocessor: made from a file or trained, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Self

from tokenizers import Tokenizer as RustTokenizer

from ..errors import PreprocessorError
from ..hub import Source
from .chat_files import choose, read_templates, template_files, template_names
from .chat_template import render
from .preprocessor import Preprocessor, join
from .rust_backend import guarded, read_backend
from .sentencepiece_model import read_model_file
from .text_coding import TextCoding
from .tokenizer_config import TokenizerConfig
from .vocabulary import ROLES

__all__ = ["Tokenizer", "TokenizerConfig"]


class Tokenizer(TextCoding, Preprocessor):
    """A configured tokenizer. Calls may come from many threads; training and adding tokens may not.

    Args:
        config: The settings.
        tokenizer_file: A tokenizer.json with vocabulary and rules.
        backend: A Rust tokenizer to use instead of a file; its padding and truncation are switched off.
        **kwargs: Fields of the config to override.

    Raises:
        TokenizerError: When the file cannot be read.
    """

    config: TokenizerConfig
    config_filename = "tokenizer_config.yaml"
    tokenizer_filename: ClassVar[str] = "tokenizer.json"
    sentencepiece_filename: ClassVar[str] = "sentencepiece.model"
    sentencepiece: bytes | None = None
    """The `.model` file that this was made of, where it is kept for systems that read no other."""

    def __init__(
        self,
        config: TokenizerConfig,
        tokenizer_file: str | Path | None = None,
        backend: RustTokenizer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config, **kwargs)
        if backend is None:
            backend = self.build() if tokenizer_file is None else read_backend(tokenizer_file)
        # What a file asks for here would be state shared between threads, and a kilobyte could ask for gigabytes.
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend

    # -- building and training --------------------------------------------------------------------------------------

    def build(self) -> RustTokenizer:
        """Makes an untrained tokenizer; each kind says how."""
        raise PreprocessorError(f"{type(self).__name__} cannot be built without a file. Give `tokenizer_file`.")

    def trainer(self) -> Any:
        """Makes the trainer of the Rust library; each kind says how."""
        raise PreprocessorError(f"{type(self).__name__} cannot be trained. Use one of the named kinds of tokenizer.")

    def finish_training(self) -> None:
        """Sets what needs the ids of special tokens; each kind says what."""

    def train(self, files: str | Path | Sequence[str | Path], **train_kwargs: Any) -> None:
        """Trains the vocabulary on text files; `train_kwargs` set fields of the config.

        Raises:
            TokenizerError: When a file cannot be read, or training fails.
        """
        paths = [files] if isinstance(files, str | Path) else list(files)
        self._train(lambda trainer: self.backend.train([str(path) for path in paths], trainer), train_kwargs)

    def train_from_iterator(self, dataset: Iterable[str] | Iterable[Iterable[str]], **train_kwargs: Any) -> None:
        """Trains the vocabulary on texts; `train_kwargs` set fields of the config."""
        length = len(dataset) if isinstance(dataset, Sequence) else None
        self._train(lambda trainer: self.backend.train_from_iterator(dataset, trainer, length), train_kwargs)

    def _train(self, run: Callable[[Any], None], overrides: dict[str, Any]) -> None:
        self.config.update(overrides)
        with guarded("training the tokenizer failed", "Check that the data is text, and enough for the vocab_size."):
            run(self.trainer())
            self.sentencepiece = None  # it is of the vocabulary before
            self.finish_training()

    # -- conversations ----------------------------------------------------------------------------------------------

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        template: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """Writes a conversation as the text that its model was trained on.

        The text is that of transformers. It holds all of its special tokens, so it is to be tokenized with
        `add_special_tokens=False`. A special token that stands in a message is one too; see docs/chat.md.

        Args:
            messages: Mappings with "role" and "content"; a content is a text, or a list of mappings where the template
                takes such. It may be left out where there are "tool_calls". Other keys are for the template.
            add_generation_prompt: Whether the text ends with what begins an answer.
            template: Name of one of the `additional_chat_templates`; default: "tool_use" where there are tools and it
                has one, else the `chat_template`.
            tools: JSON schemas of the functions that the model may call.
            documents: What the answer may rest on.
            continue_final_message: Whether the text ends within the last message, for the model to go on with it.
            **variables: More values for the template; they win over the special tokens, which it has by their roles.

        Raises:
            PreprocessorError: When there is no template, or it is broken, or does more than it may.
            OptionError: When there is no template of that name.
            InputError: When the conversation is none, or the template refuses it.
            MissingDependency: Without jinja2.
        """
        tokens = {f"{role}_token": token for role in ROLES if role in self.roles and (token := self.role(role))}
        return render(
            choose(self.config, template, with_tools=tools is not None),
            messages,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            variables=tokens | variables,
        )

    # -- files and parts --------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, source: Source, config: TokenizerConfig, subfolder: str) -> Self:
        read_templates(config, lambda name: source.get(join(subfolder, name)))
        tokenizer = cls(config, tokenizer_file=source.get(join(subfolder, cls.tokenizer_filename)))
        if config.get("keeps_sentencepiece"):
            tokenizer.sentencepiece = read_model_file(source.get(join(subfolder, cls.sentencepiece_filename)))
        return tokenizer

    def saved_config(self) -> TokenizerConfig:
        config = copy(self.config).update(vocab_size=len(self) or self.config.vocab_size)
        config.update(template_names(config))
        if "keeps_sentencepiece" in config.fields():
            config.update(keeps_sentencepiece=self.sentencepiece is not None)
        return config

    def extra_files(self) -> dict[str, str | bytes]:
        kept = {} if self.sentencepiece is None else {self.sentencepiece_filename: self.sentencepiece}
        return {self.tokenizer_filename: self.backend.to_str(pretty=True), **kept, **template_files(self.config)}

    @property
    def self_contained(self) -> bool:
        """Whether tokenizer.json alone, read by the Rust library, gives the same ids."""
        return not self.shared_ids

    @property
    def model(self) -> Any:
        """The Rust model: vocabulary and merges."""
        return self.backend.model

    @property
    def decoder(self) -> Any:
        """The Rust decoder."""
        return self.backend.decoder
