"""Llama, Mistral, Qwen and Gemma: transformers' models, there and back, in all their variants."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from comparing import assert_same_config, assert_same_tensors, difference, perturb
from llama_line_models import (
    CASES,
    CLASSES,
    LENGTH,
    LINEAR,
    LLAMA3,
    PLAIN,
    SIZES,
    TOLERANCE,
    VARIANTS,
    WINDOW,
    YARN,
    YARN_ALL,
    assert_close,
    assert_same_outputs,
    example,
    loaded,
    main_output,
    original,
)
from safetensors.torch import load_file

from hezar_like import Model, build_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
each_case = pytest.mark.parametrize(("variant", "task"), CASES, ids=["-".join(case) for case in CASES])
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def comparable(config: Any) -> dict[str, Any]:
    """What a config of transformers says about the model."""
    values = config.to_dict()
    values["rope_parameters"].pop("type", None)  # the older name of what `rope_type` says too
    others = {"_name_or_path", "classifier_dropout", "sliding_window_pattern"}  # ours, or notes
    return {key: value for key, value in values.items() if key not in others}


@each_case
def test_there_and_back(variant: str, task: str, tmp_path: Path) -> None:
    theirs = original(variant, task)
    model = loaded(theirs, tmp_path / "original", "text_embedding" if task == "text_embedding" else None)
    assert model.task == task
    assert_same_outputs(model, theirs)

    model.export("transformers", tmp_path / "exported")
    weights = load_file(tmp_path / "original" / "model.safetensors")
    assert_same_tensors(load_file(tmp_path / "exported" / "model.safetensors"), weights)
    again, report = CLASSES[task].from_pretrained(
        tmp_path / "exported", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report.values()), report
    assert again.config.architectures == [type(theirs).__name__]
    assert comparable(again.config) == comparable(theirs.config)
    with torch.no_grad():
        tokens, mask = example()
        expected = main_output(theirs(input_ids=tokens, attention_mask=mask))
        assert difference(main_output(again(input_ids=tokens, attention_mask=mask)), expected) == 0.0

    model.save(tmp_path / "native")
    native = Model.load(tmp_path / "native", device="cpu")
    assert_same_config(native.config, model.config)
    assert_same_tensors(native.state_dict(), model.state_dict())
    assert_same_outputs(native, theirs)


@pytest.mark.parametrize(("variant", "task"), [case for case in CASES if case[1] not in ("backbone", "text_embedding")])
def test_loss_and_gradients(variant: str, task: str, tmp_path: Path) -> None:
    theirs = original(variant, task)
    model = loaded(theirs, tmp_path)
    tokens, mask = example()
    labels = torch.randint(0, 5, (4,))
    if task != "text_classification":
        first = mask.argmax(1)[:, None] == torch.arange(LENGTH)  # predicted from padding, where nothing is defined
        labels = (tokens if task == "text_generation" else tokens % 5).masked_fill((mask == 0) | first, -100)
    expected = theirs(input_ids=tokens, attention_mask=mask, labels=labels).loss
    result = model(token_ids=tokens, attention_mask=mask, labels=labels).loss
    assert difference(result, expected) <= TOLERANCE * max(1.0, expected.item())
    expected.backward()
    result.backward()
    keymap = model.family.keymap(model.config, model.task)
    gradients = {keymap.foreign(name): parameter.grad for name, parameter in model.named_parameters()}
    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert set(gradients) == set(wanted)
    for name, gradient in gradients.items():
        assert difference(gradient, wanted[name]) <= 5 * TOLERANCE * wanted[name].abs().max().item(), name


@each_variant
@torch.no_grad()
def test_steps_through_the_cache_are_one_pass(variant: str, tmp_path: Path) -> None:
    """Beyond the window, with padding on the left, in steps of one token and of several."""
    theirs = original(variant)
    model = loaded(theirs, tmp_path)
    tokens, mask = example()
    tokens, mask = tokens[:2], mask[:2]
    expected = theirs(input_ids=tokens, attention_mask=mask).logits
    for steps in ([1] * LENGTH, [11, 1, 1, 7, 3]):
        cache, logits, start = None, [], 0
        for step in steps:
            end = start + step
            output = model(
                token_ids=tokens[:, start:end],
                attention_mask=mask[:, start:end],
                past_key_values=cache,
                use_cache=True,
            )
            logits.append(output.logits)
            cache, start = output.past_key_values, end
        assert_close(torch.cat(logits, 1), expected, mask.bool())


@pytest.mark.parametrize("variant", PLAIN.values())
@torch.no_grad()
def test_vectors_in_place_of_tokens(variant: str, tmp_path: Path) -> None:
    """Those that Gemma scales, too: as its embedding gives them."""
    theirs = original(variant)
    model = loaded(theirs, tmp_path)
    vectors = torch.randn(2, LENGTH, SIZES["hidden_size"])
    assert_close(model(inputs_embeds=vectors).logits, theirs(inputs_embeds=vectors).logits)
    tokens, _ = example()
    assert_close(model.backbone.embed.tokens(tokens), theirs.get_input_embeddings()(tokens), tolerance=0.0)


@each_variant
def test_what_is_written(variant: str, tmp_path: Path) -> None:
    theirs = original(variant)
    model = loaded(theirs, tmp_path)
    tokens, mask = example()
    rows = [0, 1, 3]
    options = {"max_new_tokens": 20, "do_sample": False}
    expected = theirs.generate(input_ids=tokens[rows], attention_mask=mask[rows], **options)
    result = model.generate(token_ids=tokens[rows], attention_mask=mask[rows], max_new_tokens=20)
    assert result.shape == (3, LENGTH + 20) and len(result[:, LENGTH:].unique()) > 2
    assert torch.equal(result, expected)


@pytest.mark.parametrize("variant", PLAIN.values())
@torch.no_grad()
def test_half_precision(variant: str, tmp_path: Path) -> None:
    """No farther from what float32 gives than transformers is, and near to it."""
    theirs = original(variant).to(torch.bfloat16)
    model = loaded(theirs, tmp_path)
    assert model.dtype == torch.bfloat16
    tokens, mask = example()
    seen = mask.bool()
    half = theirs(input_ids=tokens, attention_mask=mask).logits.float()[seen]
    result = model(token_ids=tokens, attention_mask=mask).logits
    assert result.dtype == torch.bfloat16
    result = result.float()[seen]
    exact = theirs.float()(input_ids=tokens, attention_mask=mask).logits[seen]
    assert (result - exact).square().mean() <= 1.2 * (half - exact).square().mean()
    assert (result - half).abs().max() <= 0.2 * exact.std()


@pytest.mark.parametrize("variant", ["llama", "qwen3-windows", "gemma2", "gemma3-linear"])
def test_shards_and_bin(variant: str, tmp_path: Path) -> None:
    theirs = original(variant)
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    assert_same_outputs(Model.load(tmp_path / "shards", device="cpu"), theirs)

    theirs.config.architectures = [type(theirs).__name__]
    theirs.config.save_pretrained(tmp_path / "bin")
    state = theirs.state_dict() | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}  # of early versions
    torch.save(state, tmp_path / "bin" / "pytorch_model.bin")
    assert_same_outputs(Model.load(tmp_path / "bin", device="cpu"), theirs)


@pytest.mark.parametrize("window", [1, WINDOW, LENGTH - 1])
@torch.no_grad()
def test_a_window_counts_the_token_itself(window: int) -> None:
    """Of a changed token the block's output tells at this token and the next `window - 1`, nowhere else."""
    torch.manual_seed(0)
    model = build_model("mistral", **SIZES | {"num_hidden_layers": 1, "sliding_window": window}).eval()
    perturb(model)
    tokens = torch.randint(1, 100, (1, LENGTH))
    changed = tokens.clone()
    changed[0, 0] += 7
    states, others = (model(token_ids=x).last_hidden_state[0] for x in (tokens, changed))
    assert (states != others).any(-1).nonzero().flatten().tolist() == list(range(window))


@pytest.mark.parametrize("scaling", [LINEAR, LLAMA3, YARN, YARN_ALL], ids=lambda scaling: scaling["rope_type"])
def test_angles_of_long_texts_are_those_of_transformers(scaling: dict[str, Any]) -> None:
    """In float32 whatever the type of the model, so that neighbours far from the start are told apart."""
    config = transformers.AutoConfig.for_model("llama", head_dim=64, rope_parameters=dict(scaling))
    theirs = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
    model = build_model("llama", **SIZES | {"head_dim": 64}, rope_scaling=scaling).to(torch.bfloat16)
    rotary = model.backbone.stack.blocks[0].attn.rotary
    assert ((rotary.frequencies(torch.device("cpu")) - theirs.inv_freq) / theirs.inv_freq).abs().max() <= 2**-22
    positions = torch.tensor([[0, 1, 9_999, 10_000]])
    rotation = rotary(positions)
    assert rotation.cos.dtype == rotation.sin.dtype == torch.float32
    for own, other in zip(rotation[:2], theirs(torch.ones(1), positions), strict=True):
        assert difference(own[:, 0], other) <= (2e-4 if scaling["rope_type"] == "yarn" else 0.0)
    assert (rotation.cos[..., 2, :] != rotation.cos[..., 3, :]).any()


@pytest.mark.parametrize("family", PLAIN)
def test_blocks_share_what_is_equal(family: str) -> None:
    two_kinds = family == "gemma3"
    model = build_model(family, **SIZES, **({"sliding_window_pattern": 2} if two_kinds else {}))
    assert len({id(block.attn.rotary) for block in model.backbone.stack.blocks}) == 1 + two_kinds
    assert not list(model.buffers())


def test_soft_caps_keep_scores_below() -> None:
    fields = SIZES | {"head_dim": 12, "final_logit_softcapping": 3.0}
    model = build_model("gemma2_text_generation", **fields, attn_logit_softcapping=2.0)
    perturb(model)
    logits = model(token_ids=torch.arange(1, 20)[None]).logits
    assert 2.0 < logits.abs().max() <= 3.0
    probabilities = model(token_ids=torch.arange(1, 20)[None], output_attentions=True).attentions[1]
    last = probabilities[0, :, -1]  # of scores within 2 of zero, the ratio is at most exp(4)
    assert last.max() / last.min() <= math.exp(4) * (1 + 1e-5)


def test_tokenizer_of_transformers(tmp_path: Path) -> None:
    """A byte-fallback BPE like Llama's, in the tokenizer.json that transformers writes."""
    from tokenizers import AddedToken, decoders, normalizers, processors
    from tokenizers import Tokenizer as Rust
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    special = ["<unk>", "<s>", "</s>"]
    rust = Rust(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    rust.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    rust.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    trainer = BpeTrainer(vocab_size=400, special_tokens=[*special, *bytes_], show_progress=False)
    rust.train_from_iterator(["a cat sat on the mat", "the dog is on the box", "a quick brown fox"] * 3, trainer)
    saved = json.loads(rust.to_str())
    saved["added_tokens"] = [token for token in saved["added_tokens"] if token["content"] in special]  # bytes are none
    rust = Rust.from_str(json.dumps(saved))
    rust.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    rust.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=rust, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>"
    )

    theirs = original("llama", vocab_size=rust.get_vocab_size())
    theirs.save_pretrained(tmp_path)
    fast.save_pretrained(tmp_path)
    model = Model.load(tmp_path, device="cpu")
    texts = ["the cat sat", "a dog 🐈 é", "the quick brown fox is on the mat"]
    batch = fast(texts, padding=True, padding_side="left", return_tensors="pt")
    batch.pop("token_type_ids", None)
    own = model.preprocess(texts)
    assert torch.equal(own["attention_mask"], batch["attention_mask"])
    assert torch.equal(own["token_ids"] * own["attention_mask"], batch["input_ids"] * batch["attention_mask"])
    written = theirs.generate(**batch, max_new_tokens=8, do_sample=False)
    expected = [{"text": text} for text in fast.batch_decode(written, skip_special_tokens=True)]
    assert model.predict(texts, max_new_tokens=8) == expected
    assert all(len(result["text"]) > len(text) for result, text in zip(expected, texts, strict=True))

    model.export("transformers", tmp_path / "exported")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    assert again(texts)["input_ids"] == fast(texts)["input_ids"]
