"""Speech recognition: rules, times, windows, batches, options and records, with a tiny model of random weights."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from spoken import word_errors
from torch import Tensor

from hezar_like import Model
from hezar_like.errors import InputError, NonFiniteOutput, OptionError, PreprocessorError
from hezar_like.generation.processors import Written
from hezar_like.generation.timestamps import timestamp_rules
from hezar_like.generation.warping import first_columns, smoothed
from hezar_like.tasks.speech_options import SpeechGenerationConfig, prompt_of
from hezar_like.tasks.speech_segments import Segment, Window, Word, compression_ratio, quiet_cuts, split
from hezar_like.tasks.speech_transcription import plain_tokens
from hezar_like.tasks.speech_words import hand_out, with_marks

FOLDER = Path(__file__).parents[1] / "fixtures" / "speech" / "hezar_whisper"
RATE = 16_000
FIRST = 507
"""The token of the time 0 of the model here."""
TAKE_ALL: dict[str, Any] = {
    "temperature": 0.0, "logprob_threshold": None, "compression_ratio_threshold": None, "no_speech_threshold": None,
    "max_initial_timestamp_index": None, "suppress_tokens": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Model:
    """Writes nonsense, with times all over the window."""
    return Model.load(FOLDER, device="cpu", config_filename="model_config_timestamps.yaml")


def noise(seconds: float, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    loud = torch.rand(int(seconds) + 1, generator=random).repeat_interleave(RATE)[: int(seconds * RATE)]
    return loud * torch.randn(int(seconds * RATE), generator=random) / 10


# -- rules of times -------------------------------------------------------------------------------------------------


def plain_rule(scores: Tensor, row: list[int], first: int, end: int, latest: int | None) -> Tensor:
    """The rule for one row, step by step, as the paper tells it."""
    scores = scores.clone()
    scores[first - 1] = -math.inf
    times = [token for token in row if token >= first]
    if not row:
        scores[:first] = -math.inf
        if latest is not None:
            scores[first + latest + 1 :] = -math.inf
    elif row[-1] >= first and (len(row) < 2 or row[-2] >= first):
        scores[first:] = -math.inf  # a segment has begun: text
    elif row[-1] >= first:
        scores[:end] = -math.inf  # it has ended: another one, or the end
        scores[first : times[-1]] = -math.inf
    elif times:
        scores[first : times[-1] + 1] = -math.inf
    if scores[first:].logsumexp(0) > scores[:first].max():
        scores[:first] = -math.inf
    return scores


@pytest.mark.parametrize("latest", [None, 3])
def test_rules_of_times_for_many_rows_at_once(latest: int | None) -> None:
    first, end, random = 12, 9, torch.Generator().manual_seed(1)
    rule, rows, steps = timestamp_rules(first, end, latest), 200, 8
    written = torch.zeros(rows, 3, dtype=torch.int64) + 10  # the prompt
    for new in range(steps):
        scores = 3 * torch.randn(rows, 30, generator=random)
        expected = torch.stack(
            [plain_rule(scores[row], written[row, 3:].tolist(), first, end, latest) for row in range(rows)]
        )
        found = rule(scores.clone(), Written(written, new, torch.full((rows,), 20)))
        assert torch.equal(found, expected)
        chosen = torch.where(
            found.isinf().all(1), end, found.softmax(-1).nan_to_num(1.0).multinomial(1, generator=random)[:, 0]
        )
        written = torch.cat((written, chosen[:, None]), 1)
    kinds = {tuple((row[3:] >= first).tolist()) for row in written}
    assert len(kinds) > 10  # many shapes were met


# -- when words are spoken ------------------------------------------------------------------------------------------


def plain_warping(costs: Tensor) -> list[int]:
    rows, columns = costs.shape
    best = {(0, 0): (float(costs[0, 0]), None)}
    for i in range(rows):
        for j in range(columns):
            before = [at for at in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if at in best]
            if before:
                source = min(before, key=lambda at: best[at][0])
                best[i, j] = (best[source][0] + float(costs[i, j]), source)  # type: ignore[assignment]
    at: Any = (rows - 1, columns - 1)
    first = [0] * rows
    while at is not None:
        first[at[0]] = at[1]
        at = best[at][1]
    return first


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (9, 1), (5, 30), (30, 5), (17, 17)])
def test_warping_finds_the_cheapest_path(rows: int, columns: int) -> None:
    for seed in range(10):
        costs = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert first_columns(costs) == plain_warping(costs)


@pytest.mark.parametrize("width", [1, 3, 7, 9])
def test_smoothing_takes_medians(width: int) -> None:
    values = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))
    reach = width // 2
    mirrored = torch.cat((values[..., 1 : reach + 1].flip(-1), values, values[..., -reach - 1 : -1].flip(-1)), -1)
    assert torch.equal(smoothed(values, width), mirrored.unfold(-1, width, 1).median(-1).values)
    assert torch.equal(smoothed(values[..., :3], 9), values[..., :3])  # too short to mirror


def word(text: str, start: float, end: float) -> Word:
    return Word(text, [1] * max(1, len(text) // 3), start, end, 0.5)


def test_marks_belong_to_words() -> None:
    words = [
        word(text, i, i + 1)
        for i, text in enumerate([' "', "Ask", " not", ",", '"', " -", " he", " (", "said", ")", "."])
    ]
    assert [w.text for w in with_marks(words)] == [' "Ask', ' not,"', " - he", " (said)."]
    assert next((w.start, w.end) for w in with_marks(words)) == (1, 2)  # the mark takes no time
    assert sum(len(w.tokens) for w in with_marks(words)) == sum(len(w.tokens) for w in words)


def test_words_of_segments_rise_and_stay_inside() -> None:
    window = Window([], "", 0.0, 0.0, 0.0)
    segments = [Segment(10.0, 12.0, [], window), Segment(12.0, 13.0, [], window)]
    words = [word(" a", 0.0, 1.6), word(" b", 1.6, 1.8), word(" c", 1.8, 2.0), word(" d", 2.0, 5.0)]
    hand_out(words, segments, [2, 2], 10.0)
    assert [w.text for segment in segments for w in segment.words or []] == [" a", " b", " c", " d"]
    times = [time for segment in segments for w in segment.words or [] for time in (w.start, w.end)]
    assert times == sorted(times) and times[0] > 10.1 and times[-1] <= 13.0  # beside pauses, words are shortened
    assert (segments[0].start, segments[0].end) == (times[0], times[3])


# -- windows --------------------------------------------------------------------------------------------------------


def test_what_is_written_is_cut_at_its_times() -> None:
    t = [FIRST + step for step in range(1501)]
    assert split([t[0], 1, 2, t[50]], FIRST, 3000) == ([(0.0, 1.0, [t[0], 1, 2, t[50]])], 3000)
    two = [t[0], 1, t[50], t[60], 2, t[100]]
    assert split(two, FIRST, 3000) == ([(0.0, 1.0, two[:3]), (1.2, 2.0, two[3:])], 3000)
    # What follows the last pair is not finished: the next window begins there.
    assert split([*two[:3], t[50], 2], FIRST, 3000) == ([(0.0, 1.0, two[:3])], 100)
    assert split([*two[:3], t[50]], FIRST, 3000) == ([(0.0, 1.0, two[:3])], 100)
    assert split([1, 2], FIRST, 700) == ([(0.0, 7.0, [1, 2])], 700)
    assert split([t[0], 1], FIRST, 700) == ([(0.0, 7.0, [t[0], 1])], 700)
    assert split([], FIRST, 700)[1] == 700
    assert split([t[0], t[0]], FIRST, 700)[1] == 700  # never on the spot


def test_quiet_places() -> None:
    loud = torch.ones(4, 1000)
    loud[:, 450:500] = -1
    assert 460 <= quiet_cuts(loud, 600)[0] <= 490
    ends = quiet_cuts(torch.randn(4, 5000, generator=torch.Generator().manual_seed(0)), 600)
    assert ends[-1] == 5000 and all(0 < b - a <= 600 for a, b in zip([0, *ends], ends, strict=False))
    assert quiet_cuts(loud, 1000) == [1000]


def test_ratio_of_repetition() -> None:
    assert compression_ratio("") == 0 and compression_ratio("ha " * 100) > 10 > 2 > compression_ratio("a cat sat")


# -- batches --------------------------------------------------------------------------------------------------------

LENGTHS = [2.0, 95.0, 31.0, 0.0005, 64.5]


@pytest.mark.parametrize("options", [
    {}, {"return_timestamps": "word"}, {"num_beams": 3}, {"windows": "parallel", "return_timestamps": True},
    {"prompt": "Hezar"}, {"repetition_penalty": 1.5, "no_repeat_ngram_size": 3},
    {"temperature": [0.0, 0.7], "compression_ratio_threshold": 1.5, "best_of": 3},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}, {"penalty_alpha": 0.6, "top_k": 4},
])  # fmt: skip
def test_a_batch_gives_what_single_recordings_give(model: Model, options: dict[str, Any]) -> None:
    recordings = [noise(seconds, seed) for seed, seconds in enumerate(LENGTHS)]
    options = {**TAKE_ALL, **options, "return_scores": True}
    if options.get("return_timestamps") == "word":  # where words of a random model stand is a matter of the last digits
        model = copy.deepcopy(model).double()
    together = model.predict(recordings, **options)
    alone = [model.predict(recording, batch_size=1, **options)[0] for recording in recordings]
    assert len(together[1]["chunks"]) > 3 and together[3]["chunks"] == []
    for one, other in zip(together, alone, strict=True):
        assert one["text"] == other["text"] and len(one["chunks"]) == len(other["chunks"])
        for a, b in zip(one["chunks"], other["chunks"], strict=True):
            assert (a["text"], a["timestamp"], a["temperature"]) == (b["text"], b["timestamp"], b["temperature"])
            assert a["avg_logprob"] == pytest.approx(b["avg_logprob"], abs=1e-4)
            assert [w["timestamp"] for w in a.get("words", [])] == [w["timestamp"] for w in b.get("words", [])]


def test_times_rise_and_stay_inside(model: Model) -> None:
    (record,) = model.predict(noise(95), return_timestamps="word", **TAKE_ALL)
    times = [time for chunk in record["chunks"] for time in chunk["timestamp"]]
    assert times == sorted(times) and times[-1] <= 95
    spoken = [time for chunk in record["chunks"] for word in chunk["words"] for time in word["timestamp"]]
    assert spoken == sorted(spoken) and spoken[0] >= 0 and spoken[-1] <= 95


def test_chunks_as_they_come(model: Model) -> None:
    recordings = [noise(seconds, seed) for seed, seconds in enumerate(LENGTHS)]
    for windows in ("sequential", "parallel"):
        options = {**TAKE_ALL, "windows": windows}
        pieces = list(model.stream(iter(recordings), batch_size=2, **options))
        records = model.predict(recordings, **options)
        for index, record in enumerate(records):
            assert [chunk for number, chunk in pieces if number == index] == record["chunks"]
    first = next(iter(model.stream(noise(95), return_scores=True, **TAKE_ALL)))
    assert first[0] == 0 and first[1] == model.predict(noise(95), return_scores=True, **TAKE_ALL)[0]["chunks"][0]


def test_seconds_are_counted(model: Model, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[float, float]] = []
    model.predict([noise(40), noise(2)], report=lambda done, found: told.append((done, found)), **TAKE_ALL)
    assert [sum(seconds) for seconds in zip(*told, strict=True)] == [pytest.approx(42)] * 2
    assert capfd.readouterr().err == ""
    model.predict([noise(1)] * 40, progress=True, **TAKE_ALL)
    assert "40/40" in capfd.readouterr().err


# -- options --------------------------------------------------------------------------------------------------------


def test_prompts() -> None:
    config = SpeechGenerationConfig(
        lang_to_id={"<|en|>": 11, "<|fa|>": 12}, task_to_id={"transcribe": 20, "translate": 21},
        no_timestamps_token_id=30, prev_sot_token_id=25,
    )  # fmt: skip
    assert prompt_of(config, 10, 12, timed=True) == [10, 12, 20]
    assert prompt_of(config, 10, 12, timed=False, before=[1, 2]) == [25, 1, 2, 10, 12, 20, 30]
    assert prompt_of(config.changed({"task": "translate"}), 10, 11, timed=True) == [10, 11, 21]
    assert config.language_token() is None
    for language in ("fa", "Persian", "<|fa|>"):
        assert config.changed({"language": language}).language_token() == 12
    older = config.changed({"forced_decoder_ids": [[1, 11], [2, 21], [3, 30]]})
    assert (older.language_token(), older.task_token()) == (11, 21)
    assert older.changed({"language": "fa", "task": "transcribe"}).language_token() == 12
    english = config.changed({"is_multilingual": False})
    assert prompt_of(english, 10, english.language_token(), timed=False) == [10, 30]
    for changes, problem in (
        ({"language": "de"}, "does not know it"),
        ({"language": "klingon"}, "no language 'klingon'"),
        ({"is_multilingual": False, "task": "translate"}, "one language only"),
        ({"temperature": []}, "empty list"),
        ({"median_filter_width": 4}, "must be odd"),
    ):
        with pytest.raises(OptionError, match=problem):
            config.changed(changes).language_token()


def test_a_text_that_spells_special_tokens_has_none(model: Model) -> None:
    tokenizer: Any = model.preprocessor.tokenizer
    tokens = plain_tokens(tokenizer, "<|endoftext|> <|en|> so<|0.00|>")
    assert all(token < tokenizer.end_id for token in tokens)
    assert tokenizer.decode([tokens]) == [" <|endoftext|> <|en|> so<|0.00|>"]


def test_prompt_and_text_before_change_what_is_written(model: Model) -> None:
    recording = noise(95)
    usual = model.predict(recording, **TAKE_ALL)
    assert model.predict(recording, prompt="a b c", **TAKE_ALL) != usual
    assert model.predict(recording, prompt="a b c " * 500, **TAKE_ALL)  # the last tokens count
    assert model.predict(recording, condition_on_previous_text=False, **TAKE_ALL) != usual


def test_what_was_drawn_by_chance_is_not_told_to_the_next_window(model: Model) -> None:
    """At a temperature above 0.5; seeds are the same, so that only what is told makes a difference."""

    def text(temperature: float, told: bool) -> str:
        options = {**TAKE_ALL, "temperature": temperature, "condition_on_previous_text": told, "best_of": 1}
        return " | ".join(chunk["text"] for chunk in model.predict(noise(125), **options)[0]["chunks"])

    assert text(0.6, True) == text(0.6, False)
    assert text(0.5, True) != text(0.5, False)


def test_texts_that_fail_are_drawn_again(model: Model) -> None:
    options = {**TAKE_ALL, "logprob_threshold": -0.01, "temperature": (0.0, 0.3, 0.9), "return_scores": True}
    options["return_timestamps"] = True
    (record,) = model.predict(noise(5), **options)
    assert [chunk["temperature"] for chunk in record["chunks"]] == [0.9] * len(record["chunks"])
    assert record["chunks"] and record == model.predict(noise(5), **options)[0]  # the seed is fixed
    (best,) = model.predict(noise(5), **{**TAKE_ALL, "return_timestamps": True, "return_scores": True})
    assert best["chunks"][0]["temperature"] == 0.0


@pytest.mark.parametrize("temperature", [0.0, 0.9, [0.9], [0.0, 0.9]])
def test_temperatures_decide_whether_tokens_are_drawn(model: Model, temperature: Any) -> None:
    for fails in (None, -0.01):
        options = {**TAKE_ALL, "return_scores": True, "temperature": temperature, "logprob_threshold": fails}
        records = model.predict(noise(35), do_sample=True, **options)
        assert records[0]["chunks"] and records == model.predict(noise(35), **options)
        last = temperature[0 if fails is None else -1] if isinstance(temperature, list) else temperature
        assert {chunk["temperature"] for chunk in records[0]["chunks"]} == {last}


def test_windows_are_drawn_at_one_temperature(model: Model) -> None:
    options: dict[str, Any] = {
        "input_features": torch.randn(2, 80, 3000, generator=torch.Generator().manual_seed(0)), "max_new_tokens": 8,
    }  # fmt: skip
    greedy, drawn = model.generate(**options), {**options, "do_sample": True}
    assert torch.equal(model.generate(temperature=[0.0], **drawn), greedy)
    assert torch.equal(model.generate(temperature=0, **drawn), greedy)
    hot = model.generate(temperature=(1.5,), **drawn)
    assert not torch.equal(hot, greedy) and torch.equal(hot, model.generate(temperature=1.5, **drawn))
    for several in ({}, {"temperature": [0.0, 0.5]}):
        with pytest.raises(OptionError, match=r"temperature is \[0\.0, .* Give one, such as temperature=0\.7"):
            model.generate(**several, **drawn)


def test_windows_that_were_encoded_before(model: Model) -> None:
    features = torch.randn(2, 80, 3000, generator=torch.Generator().manual_seed(0))
    encoded = model.backbone.encode(features)
    states = encoded.last_hidden_state
    for options in ({}, {"num_beams": 2}, {"decoder_input_ids": torch.tensor([[1, 2], [3, 4]])}):
        expected = model.generate(features, max_new_tokens=8, **options)
        for given in (encoded, states, (states,), {"last_hidden_state": states}):
            assert torch.equal(model.generate(encoder_outputs=given, max_new_tokens=8, **options), expected)


def test_what_is_taken_for_silence(model: Model) -> None:
    quiet = {**TAKE_ALL, "no_speech_threshold": 0.0}
    assert model.predict(noise(40), **quiet) == [{"text": "", "chunks": []}]
    assert model.predict(noise(40), **{**quiet, "logprob_threshold": -1000.0})[0]["chunks"]  # probable enough


def test_language_is_heard_when_nobody_says() -> None:
    model = Model.load(FOLDER, device="cpu", config_filename="model_config_timestamps.yaml")
    settings = model.config.generation_config
    settings.language = None
    (record,) = model.predict(noise(3), return_scores=True, **TAKE_ALL)
    assert f"<|{record['language']}|>" in settings.lang_to_id and 0 < record["language_probability"] <= 1
    (told,) = model.predict(noise(3), language=record["language"], **TAKE_ALL)
    assert told["text"] == record["text"] and "language" not in told
    # Older files do not tell the tokens; the vocabulary does.
    settings.lang_to_id, settings.task_to_id, settings.no_timestamps_token_id = {}, {}, None
    assert model.predict(noise(3), **TAKE_ALL)[0] == {**told, "language": record["language"]}


def test_texts_with_special_tokens_and_times(model: Model) -> None:
    (plain,) = model.predict(noise(95), **TAKE_ALL)
    (timed,) = model.predict(noise(95), decode_with_timestamps=True, skip_special_tokens=False, **TAKE_ALL)
    assert timed["text"].startswith("<|") and "<|" not in plain["text"]
    assert timed["text"].count("<|") > len(timed["chunks"]) == len(plain["chunks"])


def test_tokens_in_place_of_texts(model: Model) -> None:
    (speech,) = model.predict(noise(40), post_process=False, **TAKE_ALL)
    assert speech.seconds == 40 and all(segment.tokens for segment in speech.segments)
    batch = model.preprocess([noise(40)])
    assert batch["input_features"].shape == (1, 80, 3000) and list(batch) == ["input_features"]
    assert model.predict(batch, preprocess=False, **TAKE_ALL) == model.predict(noise(40), **TAKE_ALL)
    with pytest.raises(OptionError, match="have been read already"):
        model.predict(batch, preprocess=False)


@pytest.mark.parametrize(("options", "problem"), [
    ({"langauge": "en"}, "Did you mean 'language'"),
    ({"num_return_sequences": 2, "num_beams": 2}, "num_return_sequences is 2, .* writes one text for each"),
    ({"stop": ["country"]}, r"stop is \['country'\], but predict\(\) writes all that is said.* Leave it out"),
    ({"stop": "country"}, r"stop is \['country'\]"),
    ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens is 3, .* several windows at once"),
    ({"alignment_heads": [(0, 0), (9, 9)], "return_timestamps": "word"},
     r"alignment_heads has \(9, 9\), .* blocks 0 to 1 with heads 0 to 3\."),
    ({"alignment_heads": [(0, 4)], "return_timestamps": "word"}, r"alignment_heads has \(0, 4\)"),
    ({"alignment_heads": [], "return_timestamps": "word"}, "alignment_heads is an empty list"),
    ({"batch_size": 0}, "positive integer"),
    ({"max_new_tokens": 64}, "writes at most 60"),
    ({"temperature": -1.0}, "temperature"),
    ({"return_timestamps": "words"}, "return_timestamps"),
    ({"windows": "all"}, "windows"),
    ({"top_p": 0.5, "temperature": 0.0}, "top_p is 0.5, which needs a temperature above 0"),
    ({"task": "sing"}, "task"),
])  # fmt: skip
def test_wrong_options(model: Model, options: dict[str, Any], problem: str) -> None:
    for recordings in (noise(1), [noise(1), noise(2)]):
        with pytest.raises(OptionError, match=problem):
            model.predict(recordings, **options)
    with pytest.raises(OptionError, match=problem):
        next(model.stream(noise(1), **options))


@pytest.mark.parametrize("rate", [0, -1, 16_000.0, "16000"])
def test_a_wrong_rate_is_told_by_the_name_of_the_option(model: Model, rate: Any) -> None:
    extractor = model.preprocessor["whisper_feature_extractor"]
    for call in (model.predict, model.preprocess, extractor):
        with pytest.raises(OptionError, match=rf"^sampling_rate={rate!r} is not a sampling rate\. Give "):
            call(noise(1), sampling_rate=rate)


def test_what_is_missing_is_told(model: Model) -> None:
    tokenizer, extractor = model.preprocessor.values()
    try:
        for parts, problem in (
            ([], "no feature extractor"),
            ([tokenizer], "no feature extractor"),
            ([extractor], "no tokenizer"),
        ):
            model.preprocessor = parts
            with pytest.raises(PreprocessorError, match=problem):
                model.predict(noise(1))
    finally:
        model.preprocessor = [tokenizer, extractor]
    with pytest.raises(OptionError, match="input_features"):
        model.predict({"attention_mask": torch.ones(1, 4)}, preprocess=False)


def test_no_inputs_and_bad_ones(model: Model) -> None:
    assert model.predict([]) == []
    with pytest.raises(InputError, match=r"item 1 of the inputs names 'none\.wav'"):
        model.predict([noise(1), "none.wav"])
    with pytest.raises(InputError, match=r"item 34 of the inputs has samples that are NaN"):
        model.predict([noise(0.1)] * 34 + [torch.full((RATE,), math.nan)], max_new_tokens=1, **TAKE_ALL)


def test_broken_weights_are_told() -> None:
    model = Model.load(FOLDER, device="cpu")
    with torch.no_grad():
        model.backbone.audio.conv1.weight.fill_(math.inf)
    with pytest.raises(NonFiniteOutput):
        model.predict(noise(1))


@pytest.mark.parametrize(("place", "options"), [
    (-1, {}), (-1, {"num_beams": 2}), (-1, {"temperature": 0.5}),
    (0, {}), (0, {"num_beams": 2}), (0, {"temperature": 0.5}),  # scores become NaN only after some tokens
])  # fmt: skip
def test_a_broken_decoder_is_told(place: int, options: dict[str, Any]) -> None:
    model = Model.load(FOLDER, device="cpu", config_filename="model_config_timestamps.yaml")
    with torch.no_grad():
        list(model.backbone.decoder.parameters())[place].fill_(math.nan)
    with pytest.raises(NonFiniteOutput, match="NaN"):
        model.predict(noise(1), **options)
    with pytest.raises(NonFiniteOutput, match="NaN"):
        list(model.stream(noise(1), **options))


def test_word_errors_are_counted() -> None:
    assert word_errors("a b c d", "A, b c d.") == 0 and word_errors("a b c d", "a x c") == 0.5
