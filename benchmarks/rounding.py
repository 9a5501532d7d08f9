"""What rounded weights change: how far Whisper's scores move on half a minute of speech, and which words come out.

The real weights of tiny.en and base are told the words that float32 writes, one by one; scores are compared in standard
deviations of float32's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from measuring import Run
from speech import MODELS, RATE, TEXT, different, language, make, spoken

from hezar_like import Model
from hezar_like.engine.running import accelerated
from hezar_like.tasks.speech_options import prompt_of

FORMS: Mapping[str, Mapping[str, Any]] = {
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantize": "int8"},
    "bfloat16, int8": {"dtype": "bfloat16", "quantize": "int8"},
    "int4": {"quantize": "int4"},
    "bfloat16, int4": {"dtype": "bfloat16", "quantize": "int4"},
}
HALF_A_MINUTE = 30 * RATE


def start_of(model: Any, name: str) -> list[int]:
    """What stands before the first word."""
    config = model.generation.changed(language(name))
    return list(prompt_of(config, model.start_token(config), config.language_token(), timed=False))


@torch.inference_mode()
def scores(model: Any, audio: Any, tokens: list[int]) -> torch.Tensor:
    """The scores of each next token, [tokens, vocabulary] float32."""
    extractor = model.preprocessor.audio_feature_extractor
    window = extractor.pad_or_cut(extractor.features(audio))[None].to(model.dtype)
    with accelerated(model):
        inputs = {"input_features": window, "decoder_input_ids": torch.tensor([tokens[:1]])}
        writer = model.backbone.writer(inputs)
        piece = next(writer.pieces())
        found = [model.head(writer.step(piece.tokens))[:, -1]]
        found += [model.head(writer.step(torch.tensor([[token]])))[:, -1] for token in tokens[1:]]
    return torch.cat(found).float()


def text_of(model: Any, name: str, audio: Any) -> str:
    """What is written of the recording."""
    text: str = model.predict(audio, temperature=0.0, progress=False, **language(name))[0]["text"]
    return text


def main() -> None:
    """Prints the table."""
    audio = spoken(TEXT)[:HALF_A_MINUTE].astype(numpy.float32)
    print("| | " + " | ".join(MODELS) + " |\n|---|" + "---|" * len(MODELS))
    cells: dict[str, list[str]] = {form: [] for form in FORMS}
    with tempfile.TemporaryDirectory() as temporary:
        for name in MODELS:
            make(name, Path(temporary))
            exact: Any = Model.load(Path(temporary) / name, device="cpu")
            text = text_of(exact, name, audio)
            words = exact.preprocessor.tokenizer.encode_texts([f" {text.strip()}"], add_special_tokens=False)[0].ids
            tokens = [*start_of(exact, name), *words]
            expected = scores(exact, audio, tokens)
            for form, options in FORMS.items():
                model = Model.load(Path(temporary) / name, device="cpu", **options)
                found = scores(model, audio, tokens)
                moved = ((found - expected).std() / expected.std()).item()
                same = (found.argmax(-1) == expected.argmax(-1)).float().mean().item()
                other = text_of(model, name, audio)
                changed = different([Run(0.0, text)], [Run(0.0, other)])
                cells[form].append(f"{moved:.4f}, {same:.2f}, {changed}")
    for form, row in cells.items():
        print(f"| {form} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
