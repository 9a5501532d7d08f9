"""FlagAI's BERT, GPT-2 and T5: equal outputs and losses, and files that FlagAI would read."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from comparing import assert_same_config, assert_same_tensors, difference
from flagai_models import FIXTURES, assert_close, folder, part, settings, weights
from published_vocabularies import unpack
from tiny_models import tiny_model
from torch import Tensor

from hezar_like import Model, build_model
from hezar_like.errors import CheckpointError, ConfigError, HubError, OptionError
from hezar_like.layers.global_pointer import NO_SPAN
from hezar_like.registry import families_registry

# The task each case of BERT is of.
TASKS = {
    "masklm": "mask_filling",
    "seq2seq": "text_generation",
    "cls": "text_classification",
    "sequence_labeling": "sequence_labeling",
    "sequence_labeling_crf": "sequence_labeling_crf",
    "sequence_labeling_gp": "sequence_labeling_global_pointer",
    "embedding": "backbone",
}
# Files with a head of their own tell their task.
TOLD = [case for case in TASKS if case not in ("seq2seq", "embedding")]
T5 = [(name, case) for name in ("t5_flagai", "t5_flagai_relu") for case in ("base", "labels")]
POOLER = re.compile(r"(bert|model)\.pooler\.")
LANGUAGE_MODEL = re.compile(r"cls\.")


def bert_state(case: str) -> dict[str, Tensor]:
    """The weights of a case's model, with those of its head."""
    head = {name: tensor for name, tensor in part("bert_flagai", case, "in").items() if "." in name}
    return {name: t for name, t in weights("bert_flagai").items() if not head or not LANGUAGE_MODEL.match(name)} | head


def bert_inputs(case: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in part("bert_flagai", case, "in").items() if "." not in name}


def bert(path: Path, case: str, **options: Any) -> Model:
    return Model.load(folder(path, bert_state(case), settings("bert_flagai")), device="cpu", **options)


def logits_of(model: Model, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        output = model(**inputs)
    return output["logits"] if "logits" in output else output["last_hidden_state"]


# -- equal outputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", TASKS)
@torch.no_grad()
def test_bert(case: str, tmp_path: Path) -> None:
    model, expected = bert(tmp_path, case, task=TASKS[case]), part("bert_flagai", case, "out")
    output = model(**bert_inputs(case))
    assert model.task == TASKS[case]
    if case == "sequence_labeling_gp":  # what is no span has no score worth comparing, but the very same one
        spans = expected["logits"] > NO_SPAN / 100
        assert_close(output.logits, expected["logits"], spans)
        assert torch.equal(output.logits[~spans] / NO_SPAN > 0.5, expected["logits"][~spans] / NO_SPAN > 0.5)
        assert (output.logits / expected["logits"] - 1)[~spans].abs().max() < 1e-6
    else:
        assert_close(output["last_hidden_state" if case == "embedding" else "logits"], expected["logits"])
    assert ("loss" in output) == ("loss" in expected)
    if "loss" in expected:
        assert abs(output.loss - expected["loss"]) <= 2e-6 * expected["loss"]
    if "last_hidden_state" in expected:
        assert_close(output.last_hidden_state, expected["last_hidden_state"])


@torch.no_grad()
def test_pooler_of_bert() -> None:
    model = Model.load(FIXTURES / "bert_flagai", task="backbone", device="cpu")
    assert_close(model(**bert_inputs("masklm")).pooler_output, part("bert_flagai", "masklm", "out")["pooler_output"])


@torch.no_grad()
def test_embedding_is_the_mean_of_all_tokens() -> None:
    """As FlagAI's `predict_embedding` has it of one text."""
    model = Model.load(FIXTURES / "bert_flagai", task="embedding", device="cpu")
    inputs = {name: tensor[:1] for name, tensor in bert_inputs("embedding").items()}
    assert inputs["input_ids"].ne(0).all()
    assert_close(model(**inputs).embeddings, part("bert_flagai", "embedding", "out")["logits"][:1].mean(1))


@torch.no_grad()
def test_gpt2() -> None:
    model, expected = Model.load(FIXTURES / "gpt2_flagai", device="cpu"), part("gpt2_flagai", "base", "out")
    tokens = part("gpt2_flagai", "base", "in")["input_ids"]
    output = model(input_ids=tokens, labels=tokens)
    assert_close(output.logits, expected["logits"])
    assert_close(model(input_ids=tokens, attention_mask=tokens.ne(0)).logits, expected["logits"])
    assert abs(output.loss - expected["loss_labels_eq_input"]) <= 2e-6 * output.loss


@torch.no_grad()
def test_a_mask_does_not_show_the_future() -> None:
    """FlagAI drops the causal mask then."""
    model = Model.load(FIXTURES / "gpt2_flagai", device="cpu")
    tokens = torch.tensor([[19, 88, 72, 55]])
    changed = torch.tensor([[19, 88, 72, 9]])
    first, second = (model(input_ids=t, attention_mask=torch.ones_like(t)).logits for t in (tokens, changed))
    assert torch.equal(first[:, :-1], second[:, :-1]) and not torch.equal(first, second)


@pytest.mark.parametrize(("name", "case"), T5)
@torch.no_grad()
def test_t5(name: str, case: str) -> None:
    model, expected = Model.load(FIXTURES / name, device="cpu"), part(name, case, "out")
    output = model(**part(name, case, "in"))
    assert_close(output.logits, expected["logits"])
    if "loss" in expected:
        assert abs(output.loss - expected["loss"]) <= 2e-6 * expected["loss"]
    else:
        assert_close(output.encoder_last_hidden_state, expected["encoder_last_hidden_state"])


# -- which task a file is for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", TOLD)
def test_heads_tell_the_task(case: str, tmp_path: Path) -> None:
    assert bert(tmp_path, case).task == TASKS[case]


def test_files_without_a_head(tmp_path: Path) -> None:
    plain = {name: tensor for name, tensor in weights("bert_flagai").items() if not LANGUAGE_MODEL.match(name)}
    assert Model.load(folder(tmp_path, plain, settings("bert_flagai"))).task == "backbone"
    for name in ("gpt2_flagai", "t5_flagai"):
        assert Model.load(FIXTURES / name).task == "text_generation"


@pytest.mark.parametrize(
    "alias", ["ner_crf", "sequence_labeling_gp", "ner_gp", "seq2seq", "masklm", "semantic_matching"]
)
def test_names_of_tasks(alias: str) -> None:
    assert Model.load(FIXTURES / "bert_flagai", task=alias).config.family == "bert"


def test_a_head_of_another_task_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = bert(tmp_path, "cls", task="ner_crf")
    assert "also has weights of heads for other tasks: 'out_layer." in caplog.text
    assert "new and random" in caplog.text and "head.crf.transitions" in caplog.text
    assert model.config.num_labels == 4 and model.head.crf.transitions.abs().max() <= 0.1


# -- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", TASKS)
def test_bert_there_and_back(case: str, tmp_path: Path) -> None:
    model = bert(tmp_path / "original", case, task=TASKS[case])
    exported = model.export("flagai", tmp_path / "exported")
    written = torch.load(exported / "pytorch_model.bin", weights_only=True)
    pooled = case in ("cls", "embedding")  # the other tasks have no use for it, and FlagAI none then
    kept = lambda name: (pooled or not POOLER.match(name)) and (case != "embedding" or not LANGUAGE_MODEL.match(name))  # noqa: E731
    assert_same_tensors(written, {name: tensor for name, tensor in bert_state(case).items() if kept(name)})
    assert fused_by_order(written).keys() == {0, 1, 2}

    again = Model.load(exported, task=TASKS[case], device="cpu")
    assert_same_config(again.config, model.config)
    inputs = bert_inputs(case)
    assert difference(logits_of(again, inputs), logits_of(model, inputs)) == 0.0


def fused_by_order(state: dict[str, Tensor]) -> dict[int, list[str]]:
    """Which layers FlagAI finds, which counts them up at each bias of values, in the order of the file."""
    names, layer, found, group = list(state), 0, {}, []
    for name in names:
        match = re.search(r"layer\.(\d+)\.attention\.self\.(\w+\.\w+)$", name)
        if match is None:
            continue
        assert int(match[1]) == layer
        group.append(match[2])
        if match[2] == "value.bias":
            assert group == [f"{part}.{leaf}" for part in ("query", "key", "value") for leaf in ("weight", "bias")]
            found[layer], group, layer = group, [], layer + 1
    return found


def test_gpt2_there_and_back(tmp_path: Path) -> None:
    model = Model.load(FIXTURES / "gpt2_flagai", device="cpu")
    written = torch.load(model.export("flagai", tmp_path) / "pytorch_model.bin", weights_only=True)
    original = weights("gpt2_flagai")
    head = original.pop("lm_head.weight")  # FlagAI never reads it
    assert not torch.equal(head, original["transformer.wte.weight"])
    assert torch.equal(written.pop("lm_head.weight"), original["transformer.wte.weight"])
    assert_same_tensors(written, original)
    again = Model.load(tmp_path, device="cpu")
    assert_same_config(again.config, model.config)
    tokens = part("gpt2_flagai", "base", "in")
    assert difference(logits_of(again, tokens), logits_of(model, tokens)) == 0.0


@pytest.mark.parametrize("name", ["t5_flagai", "t5_flagai_relu"])
def test_t5_there_and_back(name: str, tmp_path: Path) -> None:
    model = Model.load(FIXTURES / name, device="cpu")
    written = torch.load(model.export("flagai", tmp_path) / "pytorch_model.bin", weights_only=True)
    assert_same_tensors(written, weights(name))
    again = Model.load(tmp_path, device="cpu")
    assert_same_config(again.config, model.config)
    assert difference(logits_of(again, part(name, "base", "in")), logits_of(model, part(name, "base", "in"))) == 0.0
    assert {**settings(name), "relative_attention_max_distance": 128} == json.loads(
        (tmp_path / "config.json").read_text()
    )


@pytest.mark.parametrize("name", ["bert_flagai", "gpt2_flagai", "t5_flagai"])
def test_native_there_and_back(name: str, tmp_path: Path) -> None:
    model = Model.load(FIXTURES / name, device="cpu")
    model.save(tmp_path)
    again = Model.load(tmp_path, device="cpu")
    assert_same_config(again.config, model.config)
    assert_same_tensors(again.state_dict(), model.state_dict())


def test_a_tied_head_is_written_as_a_copy(tmp_path: Path) -> None:
    model = tiny_model("bert_mask_filling", intermediate_size=128)
    model.preprocessor = None
    assert model.config.tie_word_embeddings
    written = torch.load(model.export("flagai", tmp_path) / "pytorch_model.bin", weights_only=True)
    assert torch.equal(written["cls.predictions.decoder.weight"], written["bert.embeddings.word_embeddings.weight"])
    inputs = {"token_ids": torch.tensor([[2, 20, 30, 3]])}
    assert difference(logits_of(Model.load(tmp_path, device="cpu"), inputs), logits_of(model, inputs)) < 1e-5


# -- other forms of the files -----------------------------------------------------------------------------------------


def as_saved_by_training(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of FlagAI's own modules: `model.` before the backbone, and queries, keys, values in one."""
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = re.match(r"bert\.(.*\.self)\.(query|key|value)\.(\w+)$", name)
        if match is None:
            result[re.sub(r"^bert\.", "model.", name)] = tensor
            continue
        fused = f"model.{match[1]}.query_key_value.{match[3]}"
        result[fused] = torch.cat((result[fused], tensor)) if fused in result else tensor
    return result


@pytest.mark.parametrize("case", TASKS)
def test_saved_by_training(case: str, tmp_path: Path) -> None:
    state = as_saved_by_training(bert_state(case))
    assert "model.encoder.layer.2.attention.self.query_key_value.bias" in state
    beside = {
        "iteration": 100,
        "args": argparse.Namespace(lr=0.1),
        "np_rng_state": numpy.random.get_state(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
    }
    saved = folder(tmp_path / "saved", {"module": state, **beside}, settings("bert_flagai"))
    model, plain = Model.load(saved, task=TASKS[case], device="cpu"), bert(tmp_path / "plain", case, task=TASKS[case])
    assert_same_tensors(model.state_dict(), plain.state_dict())


def test_bare_backbone(tmp_path: Path) -> None:
    state = as_saved_by_training(bert_state("embedding"))
    bare = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
    model = Model.load(folder(tmp_path / "bare", bare, settings("bert_flagai")), device="cpu")
    assert_same_tensors(model.state_dict(), bert(tmp_path / "plain", "embedding", task="backbone").state_dict())


def test_gpt2_saved_by_training(tmp_path: Path) -> None:
    """There matrices are the other way round, and FlagAI itself would turn them once more."""
    turned = {
        name: tensor.T.contiguous() if re.search(r"c_(attn|proj|fc)\.weight", name) else tensor
        for name, tensor in weights("gpt2_flagai").items()
    }
    model = Model.load(folder(tmp_path, turned, settings("gpt2_flagai")), device="cpu")
    assert_same_tensors(model.state_dict(), Model.load(FIXTURES / "gpt2_flagai", device="cpu").state_dict())


def test_older_spellings(tmp_path: Path) -> None:
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    names["cls.predictions.decoder.bias"] = "cls.predictions.bias"
    state = {}
    for name, tensor in weights("bert_flagai").items():
        for new, old in names.items():
            name = name.replace(new, old)
        state[name] = tensor
    state["cls.seq_relationship.weight"] = torch.zeros(2, 24)
    model = Model.load(folder(tmp_path, state, settings("bert_flagai")), device="cpu")
    assert_same_tensors(model.state_dict(), Model.load(FIXTURES / "bert_flagai", device="cpu").state_dict())


@pytest.mark.parametrize("index", [True, False])
def test_shards(index: bool, tmp_path: Path) -> None:
    state = weights("t5_flagai")
    names = list(state)
    folder(
        tmp_path, {name: state[name] for name in names[:20]}, settings("t5_flagai"), "pytorch_model-00001-of-00002.bin"
    )
    incomplete = pytest.raises(
        CheckpointError, match="has 1 of 2 shards .*'pytorch_model-00001-of-00002.bin'. Download"
    )
    if not index:
        with incomplete:
            Model.load(tmp_path)
    torch.save({name: state[name] for name in names[20:]}, tmp_path / "pytorch_model-00002-of-00002.bin")
    if index:
        shard_of = {name: f"pytorch_model-0000{1 + (i >= 20)}-of-00002.bin" for i, name in enumerate(names)}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
    model = Model.load(tmp_path, device="cpu")
    assert_same_tensors(model.state_dict(), Model.load(FIXTURES / "t5_flagai", device="cpu").state_dict())


@pytest.mark.parametrize(
    ("changes", "epsilon"),
    [
        ({}, 1e-12),
        ({"layernorm_epsilon": 1e-3}, 1e-3),
        ({"layernorm_epsilon": None}, 1e-12),
        ({"layer_norm_eps": None}, 1e-6),
    ],
)
def test_epsilon_of_bert(changes: dict[str, Any], epsilon: float, tmp_path: Path) -> None:
    values = {key: value for key, value in (settings("bert_flagai") | changes).items() if value is not None}
    assert Model.load(folder(tmp_path, weights("bert_flagai"), values)).config.layer_norm_eps == epsilon


def test_settings_that_flagai_does_not_read(tmp_path: Path) -> None:
    values = settings("bert_flagai") | {"intermediate_size": 7}
    assert Model.load(folder(tmp_path / "bert", weights("bert_flagai"), values)).config.intermediate_size == 96
    values = settings("gpt2_flagai") | {"layer_norm_epsilon": 0.5, "n_inner": 96}
    assert Model.load(folder(tmp_path / "gpt2", weights("gpt2_flagai"), values)).config.layer_norm_eps == 1e-5


# -- padding and tokenizers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["merges.txt", "spiece.model"])
def test_token_0_is_a_token_where_the_vocabulary_says_so(file: str, tmp_path: Path) -> None:
    folder(tmp_path, weights("gpt2_flagai"), settings("gpt2_flagai"))
    assert Model.load(tmp_path, load_preprocessor=False).backbone.padding_token == 0
    (tmp_path / file).touch()
    assert Model.load(tmp_path, load_preprocessor=False).backbone.padding_token is None


FAMILIES = [
    name for name in families_registry if "mask_padding_tokens" in families_registry[name].config_class.fields()
]


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_padding_told_by_its_token(name: str) -> None:
    """Every family that has the switch obeys it."""
    model = tiny_model(name, mask_padding_tokens=True, pad_token_id=1)
    tokens = torch.tensor([[20, 30, 40, 50], [60, 70, 1, 1]])
    told = model(token_ids=tokens).last_hidden_state
    masked = model(token_ids=tokens, attention_mask=tokens.ne(1)).last_hidden_state
    assert difference(told, masked) == 0.0
    assert difference(told, model(token_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state) > 1e-3
    with pytest.raises(ConfigError, match="mask_padding_tokens needs a pad_token_id"):
        build_model("gpt2", mask_padding_tokens=True, pad_token_id=None)


def test_tokenizer(tmp_path: Path) -> None:
    unpack(tmp_path / "vocabularies")
    values = settings("bert_flagai") | {"vocab_size": 21128}
    state = weights("bert_flagai")
    for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"):
        state[name] = torch.randn(21128, 24, generator=torch.Generator().manual_seed(0)) * 0.2
    state["cls.predictions.decoder.bias"] = torch.zeros(21128)
    folder(tmp_path / "model", state, values)
    vocabulary = (tmp_path / "vocabularies" / "bert_chinese_vocab.txt").read_bytes()
    (tmp_path / "model" / "vocab.txt").write_bytes(vocabulary)
    model = Model.load(tmp_path / "model", device="cpu")
    (proposals,) = model.predict("北京是[MASK]国的首都", top_k=2)
    assert len(proposals) == 2 and proposals[0]["sequence"].startswith("北 京 是")
    exported = model.export("flagai", tmp_path / "exported")
    assert (exported / "vocab.txt").read_bytes() == vocabulary
    assert difference(Model.load(exported, device="cpu").predict("北京是[MASK]国的首都", top_k=2), [proposals]) == 0.0


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert_flagai", "gpt2_flagai", "t5_flagai"])
def test_damaged_weights_are_all_listed(name: str, tmp_path: Path) -> None:
    state = weights(name)
    names = [key for key in state if key.endswith("weight") and state[key].ndim == 2 and re.search("att", key, re.I)][
        :2
    ]
    del state[names[0]]
    state[names[1]] = state[names[1]][:-1]
    state["surplus"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as error:
        Model.load(folder(tmp_path, state, settings(name)))
    message = str(error.value)
    assert "missing: " in message and "unexpected: 'surplus'" in message and "of another shape: " in message
    assert "\n" not in message and "Check that config and weights belong together" in message


@pytest.mark.parametrize(
    ("name", "file"), [("bert_flagai", "embed_tokens"), ("t5_flagai", "decoder.embed_tokens.weight")]
)
def test_copies_that_differ(name: str, file: str, tmp_path: Path) -> None:
    state = weights(name)
    if name == "bert_flagai":
        state["cls.predictions.bias"] = state["cls.predictions.decoder.bias"] + 1
    else:
        state[file] = state[file] + 1
    with pytest.raises(CheckpointError, match="should be the same tensor and differ"):
        Model.load(folder(tmp_path, state, settings(name)))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "bert_flagai",
            {"hidden_act": None, "vocab_size": None},
            "the settings 'hidden_act', 'vocab_size' are missing",
        ),
        ("bert_flagai", {"hidden_size": "24"}, "hidden_size is '24' (str); it must be an integer"),
        ("bert_flagai", {"class_num": 0.5, "layer_norm_eps": "small"}, "layer_norm_eps is 'small' (str)"),
        ("gpt2_flagai", {"hidden_size": 12}, "hidden_size is 12 and n_embd 24; they must be equal"),
        ("gpt2_flagai", {"do_layer_norm_before": False}, "do_layer_norm_before is False; only True is supported"),
        ("t5_flagai", {"relative_attention_max_distance": 64}, "only 128 is supported for 't5'"),
        ("t5_flagai", {"feed_forward_proj": "gated-gulu"}, "unknown. Did you mean 'gelu'"),
        ("bert_flagai", {"auto_map": {"AutoModel": "x.y"}}, "'auto_map' is not supported"),
    ],
)
def test_wrong_settings(name: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    values = {key: value for key, value in (settings(name) | changes).items() if value is not None or key == "n_inner"}
    with pytest.raises(ConfigError, match=re.escape(message)):
        Model.load(folder(tmp_path, weights(name), values))


def test_unknown_settings_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Model.load(folder(tmp_path, weights("gpt2_flagai"), settings("gpt2_flagai") | {"use_magic": 1}))
    assert "these settings are unknown here and have no effect: 'use_magic'" in caplog.text


@pytest.mark.parametrize(
    ("model", "fields", "reason"),
    [
        ("bert_mask_filling", {"intermediate_size": 48}, "only models with intermediate_size=128"),
        ("bert_mask_filling", {"pad_token_id": 1}, "only models with pad_token_id=0"),
        ("bert", {"add_pooling_layer": False}, "its BERT has a pooler"),
        ("bert_text_embedding", {"pooling": "cls"}, "its embeddings are means"),
        ("bert_sequence_labeling_crf", {}, "special tokens"),
        ("bert_sequence_labeling", {"classifier_bias": False}, "its heads have biases"),
        ("gpt2_text_generation", {"tie_word_embeddings": False}, "only models with tie_word_embeddings=True"),
        ("gpt2_text_classification", {}, "its gpt2 is for text_generation, backbone"),
        ("t5_text_generation", {"logit_scale": 1.0}, "only models with relative_attention_max_distance=128"),
        (
            "t5_text_generation",
            {"logit_scale": 1.0, "relative_attention_max_distance": 128},
            "only models with tie_word_embeddings=False",
        ),
        ("t5_text_generation", {}, "it scales nothing before the head"),
        ("t5_text_generation", {"feed_forward_proj": "gated-silu", "tie_word_embeddings": False}, "not gated-silu"),
        ("roberta", {}, "it has no such family"),
    ],
)
def test_models_that_flagai_has_not(model: str, fields: dict[str, Any], reason: str, tmp_path: Path) -> None:
    sizes = {"intermediate_size": 128} if model.startswith("bert") else {}
    with pytest.raises(OptionError, match=re.escape(reason)):
        tiny_model(model, **(sizes | fields)).export("flagai", tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_lost_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = {"num_labels": None, "id2label": {0: "O", 1: "B-LOC"}, "intermediate_size": 128}
    labeler = tiny_model("bert_sequence_labeling", **labels)
    writer = tiny_model("gpt2_text_generation", pad_token_id=5, layer_norm_eps=1e-5)
    for model in (labeler, writer):
        model.preprocessor = None
        model.export("flagai", tmp_path / model.task)
    assert "FlagAI keeps no names of labels" in caplog.text and "FlagAI takes token 0 for padding" in caplog.text


def test_no_two_layouts_in_a_folder(tmp_path: Path) -> None:
    model = Model.load(FIXTURES / "gpt2_flagai")
    model.export("flagai", tmp_path)
    with pytest.raises(HubError, match="holds a model in the flagai layout"):
        model.export("transformers", tmp_path)
    model.export("flagai", tmp_path)  # its own is replaced
