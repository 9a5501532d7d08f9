"""Writing with GPT-2 and T5 of the published sizes and random weights: we, transformers and CTranslate2.

All engines have the same weights; what they write is compared. Engines that are not installed are left out. The last
case, blocks so small that their arithmetic is nothing, shows what a token costs beside arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from measuring import Actions, Benchmark, Run, main, median

READ, BEAMS, LOOKED_UP = 64, 4, 10
GPT2, T5, REPEATING, TINY = "gpt2", "t5", "repeating", "tiny"
VOCABULARIES = {GPT2: 50257, T5: 32128, REPEATING: 50257, TINY: 1000}
CASES = {
    "GPT-2 small, greedy, batch 1": (GPT2, 1),
    "GPT-2 small, greedy, batch 8": (GPT2, 8),
    "T5-small, 4 beams, batch 1": (T5, 1),
    "T5-small, 4 beams, batch 4": (T5, 4),
    "GPT-2 small, a text that repeats": (REPEATING, 1),
    "12 layers of width 48": (TINY, 1),
}
"""Which model writes, and for how many inputs."""
WRITTEN = {GPT2: 128, T5: 64, REPEATING: 128, TINY: 128}
QUICK = {"GPT-2 small, greedy, batch 1", "T5-small, 4 beams, batch 1", "12 layers of width 48"}
QUICKLY_WRITTEN = 24
SPREAD, SMALL = 4, 0.1
"""How much larger GPT-2's random matrices are than usual, and how much smaller T5's random vectors of tokens: else both
would repeat one token for ever."""

Written = list[list[int]]
Make = Callable[[Path, str], Callable[[Any, int], Written]]
"""Loads the model of this name, and returns what writes so many tokens after prompts [batch, length]."""


def prompts(name: str, batch: int) -> Any:
    """The same random tokens in every process."""
    import torch

    return torch.randint(3, VOCABULARIES[name], (batch, READ), generator=torch.Generator().manual_seed(1))


# -- the engines ------------------------------------------------------------------------------------------------------


def ours(
    folder: Path, name: str, *, load: Mapping[str, Any] | None = None, **options: Any
) -> Callable[[Any, int], Written]:
    """hezar_like."""
    import torch

    from hezar_like import Model

    torch.set_num_threads(1)
    model = Model.load(folder / name, load_preprocessor=False, device="cpu", **(load or {}))
    options |= {"num_beams": BEAMS} if name == T5 else {}

    def write(tokens: Any, count: int) -> Written:
        written = model.generate(tokens, max_new_tokens=count, **options)
        return written[:, -count:].tolist()

    return write


def theirs(folder: Path, name: str, *, dtype: str = "float32", **options: Any) -> Callable[[Any, int], Written]:
    """transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    torch.set_num_threads(1)
    kind = AutoModelForSeq2SeqLM if name == T5 else AutoModelForCausalLM
    model = kind.from_pretrained(folder / name, dtype=getattr(torch, dtype))
    options |= {"num_beams": BEAMS if name == T5 else 1, "do_sample": False, "pad_token_id": 0}

    def write(tokens: Any, count: int) -> Written:
        mask = torch.ones_like(tokens)
        return model.generate(tokens, attention_mask=mask, max_new_tokens=count, **options)[:, -count:].tolist()

    return write


def ctranslate2(folder: Path, name: str, *, kind: str) -> Callable[[Any, int], Written]:
    """CTranslate2."""
    import ctranslate2

    threads = {"inter_threads": 1, "intra_threads": 1, "compute_type": kind}
    path = str(converted(folder / name, kind))
    if name == T5:
        translator = ctranslate2.Translator(path, **threads)
    else:
        generator = ctranslate2.Generator(path, **threads)

    def write(tokens: Any, count: int) -> Written:
        texts = [[f"t{token}" for token in row] for row in tokens.tolist()]
        if name == T5:
            limits = {"min_decoding_length": count, "max_decoding_length": count}
            results = [found.hypotheses[0] for found in translator.translate_batch(texts, beam_size=BEAMS, **limits)]
        else:
            limits = {"min_length": count, "max_length": count, "include_prompt_in_result": False}
            results = [found.sequences[0] for found in generator.generate_batch(texts, **limits)]
        return [[int(token[1:]) for token in row] for row in results]

    return write


def llama(folder: Path, name: str, *, kind: str) -> Callable[[Any, int], Written]:
    """llama.cpp, one text after another; it does not say which tokens it wrote."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = str(gguf(folder / name, kind))
    options.n_ctx, options.n_parallel, options.n_gpu_layers, options.warmup = 512, 1, 0, False
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(options)

    def write(tokens: Any, count: int) -> Written:
        given = {"n_predict": count, "temperature": 0.0, "ignore_eos": True, "cache_prompt": False}
        for row in tokens.tolist():
            server.handle_completions({"prompt": row, **given})
        return [[0] * count for _ in tokens]

    return write


EVERYTHING = (GPT2, T5, REPEATING, TINY)
ENGINES: dict[str, tuple[Make, tuple[str, ...], str]] = {
    "hezar_like float32": (ours, EVERYTHING, "hezar_like"),
    "hezar_like float16": (partial(ours, load={"dtype": "float16"}), (GPT2, T5), "hezar_like"),
    "hezar_like bfloat16": (partial(ours, load={"dtype": "bfloat16"}), (GPT2, T5), "hezar_like"),
    "hezar_like int8": (partial(ours, load={"quantize": "int8"}), (GPT2, T5), "hezar_like"),
    "hezar_like int4": (partial(ours, load={"quantize": "int4"}), (GPT2, T5), "hezar_like"),
    "hezar_like, prompt lookup": (partial(ours, prompt_lookup_num_tokens=LOOKED_UP), (REPEATING,), "hezar_like"),
    "transformers float32": (theirs, EVERYTHING, "transformers"),
    "transformers, prompt lookup": (partial(theirs, prompt_lookup_num_tokens=LOOKED_UP), (REPEATING,), "transformers"),
    "transformers bfloat16": (partial(theirs, dtype="bfloat16"), (GPT2, T5), "transformers"),
    "llama.cpp float32": (partial(llama, kind="F32"), (GPT2,), "xllamacpp"),
    "llama.cpp float16": (partial(llama, kind="F16"), (GPT2,), "xllamacpp"),
    "llama.cpp int8": (partial(llama, kind="Q8_0"), (GPT2,), "xllamacpp"),
    "CTranslate2 float32": (partial(ctranslate2, kind="float32"), (GPT2, T5, TINY), "ctranslate2"),
    "CTranslate2 int8": (partial(ctranslate2, kind="int8"), (GPT2, T5), "ctranslate2"),
}
"""How each is made, which models it runs, and the package it needs."""


# -- the models -------------------------------------------------------------------------------------------------------


def make(folder: Path, quick: bool) -> None:
    """Writes all models as transformers does, with vocabularies of nothing but numbers."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    endless = {"bos_token_id": None, "eos_token_id": None}
    tiny = {"n_embd": 48, "n_layer": 12, "n_head": 4, "vocab_size": VOCABULARIES[TINY]}
    # T5's default of `d_ff`, and its number of layers, are those of T5-small.
    t5 = T5Config(eos_token_id=None, pad_token_id=0, decoder_start_token_id=0)
    models = {
        GPT2: GPT2LMHeadModel(GPT2Config(**endless)),
        REPEATING: GPT2LMHeadModel(GPT2Config(**endless)),
        TINY: GPT2LMHeadModel(GPT2Config(**endless, **tiny)),
        T5: T5ForConditionalGeneration(t5),
    }
    with torch.no_grad():
        for parameter in models[GPT2].transformer.h.parameters():
            parameter.mul_(SPREAD if parameter.ndim == 2 else 1)
        models[T5].shared.weight.mul_(SMALL)
        models[T5].decoder.final_layer_norm.weight.div_(SMALL)  # the scores are as large as before
    for name, model in models.items():
        model.save_pretrained(folder / name)
        words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"t{number}": number for number in range(3, VOCABULARIES[name])}
        special = {"pad_token": "<pad>", "bos_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}
        tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / name)


def converted(model: Path, kind: str) -> Path:
    """CTranslate2's form of a model, converted by CTranslate2."""
    from ctranslate2.converters import TransformersConverter

    target = model.with_name(f"{model.name}-{kind}")
    if not target.exists():
        TransformersConverter(str(model)).convert(str(target), quantization=None if kind == "float32" else kind)
    return target


def gguf(model: Path, kind: str) -> Path:
    """llama.cpp's form of GPT-2, with numbers for words."""
    import gguf
    from safetensors.torch import load_file

    target = model / f"{kind}.gguf"
    if target.exists():
        return target
    weights = {
        name.removeprefix("transformer."): tensor for name, tensor in load_file(model / "model.safetensors").items()
    }
    size, width, layers = VOCABULARIES[GPT2], 768, 12
    file, own = gguf.GGUFWriter(target, "gpt2"), gguf.GGMLQuantizationType[kind]
    file.add_context_length(1024), file.add_embedding_length(width), file.add_feed_forward_length(4 * width)
    file.add_block_count(layers), file.add_head_count(12), file.add_layer_norm_eps(1e-5)
    file.add_tokenizer_model("gpt2"), file.add_tokenizer_pre("gpt-2"), file.add_token_merges(["t 1"])
    file.add_token_list([f"t{number}" for number in range(size)]), file.add_token_types([1] * size)
    file.add_bos_token_id(1), file.add_eos_token_id(1)

    def add(target: str, tensor: Any, matrix: bool = False) -> None:
        values = tensor.float().contiguous().numpy()
        if matrix and kind != "F32":
            file.add_tensor(target, gguf.quants.quantize(values, own), raw_dtype=own)
        else:
            file.add_tensor(target, values)

    add("token_embd.weight", weights["wte.weight"], True)
    add("output.weight", weights["wte.weight"], True)
    add("position_embd.weight", weights["wpe.weight"])
    names = {"attn_norm": "ln_1", "ffn_norm": "ln_2", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj",
             "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}  # fmt: skip
    places = {"output_norm": "ln_f"} | {
        f"blk.{layer}.{theirs}": f"h.{layer}.{name}" for layer in range(layers) for theirs, name in names.items()
    }
    for theirs, name in places.items():
        weight = weights[f"{name}.weight"]
        add(f"{theirs}.weight", weight.T if weight.ndim == 2 else weight, weight.ndim == 2)
        add(f"{theirs}.bias", weights[f"{name}.bias"])
    file.write_header_to_file(), file.write_kv_data_to_file(), file.write_tensors_to_file(), file.close()
    return target


# -- the comparison ---------------------------------------------------------------------------------------------------


def cases_of(engine: str, quick: bool, only: str) -> dict[str, tuple[str, int]]:
    """The cases that an engine is to run."""
    models = ENGINES[engine][1]
    wanted = {case: of for case, of in CASES.items() if only in case and (case in QUICK or not quick)}
    return {case: (name, batch) for case, (name, batch) in wanted.items() if name in models}


def actions(engine: str, folder: Path, quick: bool, only: str) -> Actions:
    """What an engine does in its cases."""
    cases = cases_of(engine, quick, only)
    writers = {name: ENGINES[engine][0](folder, name) for name in dict.fromkeys(name for name, _ in cases.values())}

    def action(name: str, batch: int) -> Callable[[], Written]:
        tokens, count = prompts(name, batch), QUICKLY_WRITTEN if quick else WRITTEN[name]
        return lambda: writers[name](tokens, count)

    return {case: action(*of) for case, of in cases.items()}


def different(reference: list[Run], runs: list[Run]) -> str:
    """How many tokens differ; after the first one in a text all others may."""
    texts = zip(reference[-1].value, runs[-1].value, strict=True)
    pairs = [(a, b) for row in texts for a, b in zip(*row, strict=True)]
    return f"{sum(a != b for a, b in pairs)} of {len(pairs)}"


def per_step(_: list[Run], runs: list[Run]) -> str:
    """CPU milliseconds for each token of a text, reading the prompt included."""
    return f"{1000 * median(runs) / len(runs[-1].value[0]):.2f}"


BENCHMARK = Benchmark(
    packages={name: package for name, (_, _, package) in ENGINES.items()},
    quick="three cases and fewer tokens",
    prepare=make,
    actions=actions,
    columns=lambda found: {"ms per step": per_step, "tokens that differ": different},
)

if __name__ == "__main__":
    main(__file__, __doc__, BENCHMARK)
