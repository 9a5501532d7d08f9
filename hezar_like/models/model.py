"""`Model`: what every model can do, whatever it is: predict, load, save, share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from .. import hub, loading, paths, saving
from ..configs import ModelConfig
from ..engine import prediction
from ..engine.compiling import compile_blocks
from ..engine.devices import fastest_dtype, usable_device, usable_quantization
from ..engine.kinds import Quantization
from ..engine.packing import Reads
from ..engine.progress import with_progress
from ..engine.routing import names_of_parameters
from ..engine.running import Accelerated
from ..errors import OptionError, PreprocessorError
from ..formats import Content, write
from .summary import describe, tabulate

if TYPE_CHECKING:
    from ..preprocessors import Preprocessor, PreprocessorsContainer

__all__ = ["Model"]


class Model(Accelerated):
    """Base of all models. Subclass it for one of your own: build the layers in `__init__`, override what differs.

    `predict` runs `preprocess`, then `forward` (or `generate`, where `is_generative`), then `post_process`; each of its
    options goes to the method that has a parameter of that name.

    Args:
        config: The model's config. The model keeps a copy.
        **kwargs: Config fields that win over it.

    Attributes:
        config: The model's own config.
        source: Where it was loaded from, if it was: `source.name`, and `source.commit` for the Hub.
        quantize: To what `predict` and `generate` round weights on a CPU; None: they do not.
    """

    task: ClassVar[str] = ""
    pipeline_tag: ClassVar[str] = ""
    model_filename: ClassVar[str] = "model.safetensors"
    config_filename: ClassVar[str] = "model_config.yaml"
    is_generative: ClassVar[bool] = False
    forward_options: ClassVar[tuple[str, ...] | None] = None
    """What `forward` takes that is an option of `predict`; None: all of its parameters."""
    threads: ClassVar[int | None] = 1
    """In how many threads `predict` may run batches at once; None: in as many as torch uses."""
    batches_per_window: ClassVar[int] = 1
    """How many batches of inputs are prepared at once and sorted by length, where `preprocess` returns a Batch."""

    def __init__(self, config: ModelConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.config = type(config).from_dict(config.to_dict()).update(kwargs)
        self.source: hub.Source | None = None
        self.quantize: Quantization | None = None

    # -- what subclasses override -------------------------------------------------------------------------------------

    def preprocess(self, inputs: Any) -> Any:
        """Raw inputs to what `forward` takes: a mapping of named values, or one value. Here: stacks tensors."""
        stackable = isinstance(inputs, list) and inputs and all(isinstance(item, Tensor) for item in inputs)
        return torch.stack(inputs) if stackable else inputs

    def post_process(self, outputs: Any) -> Any:
        """What `forward` returned to one result per input. Here: takes the batch apart."""
        return outputs

    def infer(self, batch: Any, **options: Any) -> Any:
        """Runs the model on one batch for `post_process`; overridden to leave out what that does not need."""
        return self.run(batch, **options)

    def run(self, batch: Any, **options: Any) -> Any:
        """Calls `forward`, or `generate`, with what it takes of a preprocessed batch."""
        run, names = self.generate if self.is_generative else self.__call__, self.input_names
        if not isinstance(batch, Mapping) or not (names is None or names & set(batch)):
            return run(batch, **options)
        return run(**({key: batch[key] for key in batch if names is None or key in names} | options))

    @property
    def tokens_read(self) -> Reads:
        """Of which tokens of a text `infer` reads what a backbone makes of them; overridden to leave out the others."""
        return "all"

    @property
    def input_names(self) -> frozenset[str] | None:
        """What `forward`, or `generate`, takes by name; None when it takes anything."""
        return names_of_parameters(self.generate if self.is_generative else self.forward)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Produces a sequence; overridden by generative models."""
        raise OptionError(f"{type(self).__name__} does not generate. Call predict() or the model itself.")

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
    ) -> list[Any]:
        """From raw inputs to results.

        Args:
            inputs: One input, or any iterable of inputs.
            batch_size: The most rows per batch; "auto" chooses by the inputs' lengths.
            progress: Whether to show a bar; "auto" does on a terminal when it takes long.
            device: Moves the model there first, and leaves it there.
            preprocess: False when `inputs` is already what `forward` takes, as one batch.
            post_process: False for what `forward` returned, one entry per input.
            **options: For `preprocess`, `forward` or `generate`, and `post_process`, by name.

        Returns:
            One result per input, in order; `[]` for no inputs.

        Raises:
            OptionError: For an option nobody takes or a wrong value.
            InputError: For an input the model cannot take; names its index.
            NonFiniteOutput: When the model returned NaN or infinity.
            OutOfMemory: For an input that needs more memory than is free, even alone.
        """
        results = prediction.stream(self, inputs, batch_size, device, preprocess, post_process, options)
        return list(with_progress(results, [inputs] if self.is_one_input(inputs) else inputs, progress))

    def stream(
        self,
        inputs: Any,
        *,
        batch_size: int | Literal["auto"] = "auto",
        device: str | torch.device | None = None,
        preprocess: bool = True,
        post_process: bool = True,
        **options: Any,
    ) -> Iterator[Any]:
        """Like `predict`, but yields each result when it is ready; models that write yield pieces of their texts."""
        return prediction.stream(self, inputs, batch_size, device, preprocess, post_process, options)

    def is_one_input(self, inputs: Any) -> bool:
        """Whether this is a single input and not a collection of them."""
        return isinstance(inputs, str | bytes | os.PathLike | Mapping | Tensor) or not isinstance(inputs, Iterable)

    # -- preprocessors ------------------------------------------------------------------------------------------------

    @property
    def preprocessor(self) -> PreprocessorsContainer:
        """The model's preprocessors by registry name; also `.tokenizer`, `.text_normalizer`, ..., None when absent.

        Set it to a preprocessor, several in a list, or a mapping by name; None removes them.
        """
        if "_preprocessor" not in self.__dict__:
            self.preprocessor = None
        return self.__dict__["_preprocessor"]

    @preprocessor.setter
    def preprocessor(self, value: Preprocessor | Mapping[str, Preprocessor] | Iterable[Preprocessor] | None) -> None:
        from ..preprocessors import Preprocessor, PreprocessorsContainer

        items: Any = [value] if isinstance(value, Preprocessor) else value or ()
        for item in items.values() if isinstance(items, Mapping) else items:
            if not isinstance(item, Preprocessor):
                raise PreprocessorError(f"{item!r} is no preprocessor. Give a Preprocessor, several, or None.")
        named = items if isinstance(items, Mapping) else {item.config.name: item for item in items}
        container = PreprocessorsContainer(named)
        self.check_preprocessor(container)
        self.__dict__["_preprocessor"] = container

    def check_preprocessor(self, preprocessor: PreprocessorsContainer) -> None:
        """Raises an error when preprocessors do not fit this model; overridden by tasks."""

    # -- files --------------------------------------------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        hub_or_local_path: str | os.PathLike[str],
        load_locally: bool = False,
        load_preprocessor: bool = True,
        model_filename: str | None = None,
        config_filename: str | None = None,
        save_path: str | os.PathLike[str] | None = None,
        *,
        task: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        quantize: Quantization | None = None,
        compile: bool | str = False,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        verify: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Loads a model from a folder or the Hub, in the layout of any of `hezar_like.formats`.

        Args:
            hub_or_local_path: A folder, or a repository id "org/name".
            load_locally: Take it for a folder, never ask the network.
            load_preprocessor: Whether to load the preprocessors too.
            model_filename: Name of the weights file; default: what the layout uses.
            config_filename: Name of the config file; default: what the layout uses.
            save_path: Also save the loaded model to this folder.
            task: Build this one instead of the files'. A head they lack is random, and a warning says so.
            device: Where to put it; default: the accelerator if there is one, else the CPU.
            dtype: Type of the weights, such as "bfloat16"; "auto" takes the fastest of the device; default: the file's.
            quantize: "int8" or "int4" lets `predict` and `generate` multiply with weights rounded to 8 or 4 bits, on a
                CPU. The weights themselves, which are trained and saved, stay as they are.
            compile: Whether blocks run through torch.compile, or in which of its modes. The first calls take minutes.
            revision: Branch, tag or commit on the Hub.
            token: Access token for the Hub; default: the one you are logged in with.
            cache_dir: Where downloads are kept; default: the Hub's cache.
            local_files_only: Use only what is downloaded already.
            verify: Check what was downloaded before, too, against the hashes that the Hub announced.
            **kwargs: Config fields that win over the file's, or options of the files' format. A new number of labels
                makes a new last layer.

        Returns:
            The model, ready to predict.

        Raises:
            OptionError: When the device or the dtype is none.
            HubError: When the files cannot be had.
            ConfigError: When the config is wrong, or a keyword is not one of its fields.
            CheckpointError: When the weights do not fit; lists every missing, unexpected and mis-shaped one.
            TokenizerError: When the tokenizer's files are broken, or are another model's.
        """
        place = usable_device(device)
        source = hub.resolve(
            paths.existing_folder(hub_or_local_path) if load_locally else hub_or_local_path, revision=revision,
            token=token, cache_dir=cache_dir, local_files_only=local_files_only, verify=verify,
        )  # fmt: skip
        model = loading.load_model(
            cls,
            source,
            task=task,
            overrides=kwargs,
            model_filename=model_filename,
            config_filename=config_filename,
            with_preprocessor=load_preprocessor,
            dtype=fastest_dtype(place) if dtype == "auto" else dtype,
        )
        model.quantize = usable_quantization(quantize, place, model.is_generative)
        model.to(place).eval()
        compile_blocks(model, compile)
        if save_path is not None:
            model.save(save_path)
        return model

    def save(
        self,
        path: str | os.PathLike[str],
        filename: str | None = None,
        save_preprocessor: bool = True,
        config_filename: str | None = None,
    ) -> Path:
        """Saves config, weights and preprocessors to a folder: all of it, or, on an error, nothing.

        Args:
            path: The folder; a model in it is replaced.
            filename: Name of the weights file; `.pt` and `.bin` are written by torch instead of safetensors.
            save_preprocessor: Whether to save the preprocessors too.
            config_filename: Name of the config file.

        Returns:
            The folder.

        Raises:
            HubError: When the folder cannot be written.
        """
        return saving.save_model(
            paths.folder_at(path),
            self.config,
            loading.unique_tensors(self),
            self.preprocessor if save_preprocessor else None,
            filename=filename or self.model_filename,
            config_filename=config_filename or self.config_filename,
        )

    def push_to_hub(
        self,
        repo_id: str,
        filename: str | None = None,
        config_filename: str | None = None,
        push_preprocessor: bool = True,
        commit_message: str | None = None,
        private: bool | None = None,
        *,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        card: Mapping[str, Any] | None = None,
    ) -> str:
        """Uploads the model in one commit, with a model card; of one that is there only the metadata is completed.

        Args:
            repo_id: "org/name"; it is made when missing.
            filename: Name of the weights file.
            config_filename: Name of the config file.
            push_preprocessor: Whether to upload the preprocessors too.
            commit_message: Default: "Upload <model name>".
            private: Whether a new repository is private.
            token: Access token; default: the one you are logged in with.
            revision: Branch to commit to; it is made when missing.
            create_pr: Make a pull request instead of a commit to the branch.
            card: What the card says beside what the model knows: `language`, `license`, `base_model`, `datasets`,
                `metrics`, `description`.

        Returns:
            The commit's address; that of the last one when nothing has changed.

        Raises:
            HubError: When the upload failed; then no file has changed on the Hub.
            OptionError: When `card` is wrong.
        """
        return saving.push_model(
            self, repo_id, filename=filename, config_filename=config_filename, push_preprocessor=push_preprocessor,
            commit_message=commit_message, private=private, token=token, revision=revision, create_pr=create_pr,
            card=card,
        )  # fmt: skip

    def export(self, format: str, path: str | os.PathLike[str]) -> Path:
        """Writes a folder that another system opens.

        Args:
            format: "transformers", "flagai", "modelcenter", "openai_whisper", or "sentence_transformers".
            path: The folder.

        Returns:
            The folder.

        Raises:
            RegistryError: When there is no such format.
            OptionError: When it cannot hold this model.
            HubError: When the folder cannot be written, or holds a model of another layout.
        """
        content = Content(self.config, self.task, loading.unique_tensors(self), self.preprocessor)
        return write(format, content, paths.folder_at(path))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Loads what fits by name and shape, and warns of the rest: so a backbone starts a model for fine-tuning.

        Args:
            state_dict: Tensors by name.
            strict: Kept for torch; a mismatch is a warning either way, an error only when nothing fits.
            assign: Take the tensors themselves instead of copying their values.

        Returns:
            torch's `missing_keys` and `unexpected_keys`.

        Raises:
            CheckpointError: When no tensor fits.
        """
        fitting = loading.fitting_tensors(self, state_dict)
        result = super().load_state_dict(fitting, strict=False, assign=assign)
        missing, unexpected = loading.misfits(self, state_dict, fitting, result.missing_keys)
        return type(result)(missing, unexpected)

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())

    @property
    def num_parameters(self) -> int:
        """Number of parameters; shared ones count once."""
        return sum(p.numel() for p in self.parameters())

    @property
    def num_trainable_parameters(self) -> int:
        """Number of parameters that training changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def summary(self) -> str:
        """A table of the model's parts with their parameters, for printing."""
        return f"{self!r}\n\n{tabulate(self)}"

    def __repr__(self) -> str:
        return describe(self)
