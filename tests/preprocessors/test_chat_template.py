"""Chat templates: the text of transformers, files, and templates that mean harm."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import transformers
from chat_templates import CALLS, CHATML, GEMMA, LLAMA_2, LLAMA_3, MARKED, SYSTEM, TALK, TEMPLATES, TOOLS
from tiny_models import tiny_model, tiny_tokenizer

from hezar_like import Tokenizer
from hezar_like.errors import HezarLikeError, InputError, MissingDependency, OptionError, PreprocessorError
from hezar_like.preprocessors import chat_budget, transformers_tokenizer_files
from hezar_like.preprocessors.chat_template import render
from hezar_like.preprocessors.transformers_tokenizer import tokenizer_from_transformers

ENDS = ("<|im_start|>", "<|im_end|>", "<s>", "</s>")


def with_template(template: str | None, **others: str) -> Tokenizer:
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.add_special_tokens(list(ENDS))
    tokenizer.config.update(bos_token="<s>", eos_token="</s>", additional_special_tokens=list(ENDS[:2]))
    tokenizer.config.update(chat_template=template, additional_chat_templates=others)
    return tokenizer


def export(tokenizer: Tokenizer, folder: Path) -> Any:
    for name, content in transformers_tokenizer_files(tokenizer).items():
        (folder / name).write_bytes(content)
    return transformers.AutoTokenizer.from_pretrained(folder)


def conversation_model(template: str = CHATML) -> Any:
    model = tiny_model("gpt2_text_generation", vocab_size=140)
    model.preprocessor = with_template(template)
    return model


# -- the text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_text_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    tokenizer = with_template(TEMPLATES[name])
    theirs = export(tokenizer, tmp_path)
    compared = 0
    for messages in (TALK, SYSTEM, TALK[:1], CALLS):
        for options in ({}, {"add_generation_prompt": False}, {"tools": TOOLS}, {"documents": [{"title": "a"}]}):
            for variables in ({}, {"enable_thinking": False, "date_string": "1 Jan", "bos_token": "<z>"}):
                asked: dict[str, Any] = {"add_generation_prompt": True, **options, **variables}
                try:
                    expected = theirs.apply_chat_template(messages, tokenize=False, **asked)
                except Exception:
                    with pytest.raises(HezarLikeError):
                        tokenizer.apply_chat_template(messages, **asked)
                    continue
                compared += 1
                assert tokenizer.apply_chat_template(messages, **asked) == expected
    assert compared >= 16


@pytest.mark.parametrize("name", ["chatml", "llama2", "gemma"])
@pytest.mark.parametrize("content", ["The answer", "The answer \n", [{"type": "text", "text": "It is"}]])
def test_continuing_the_last_message(name: str, content: Any, tmp_path: Path) -> None:
    tokenizer = with_template(TEMPLATES[name])
    messages = [TALK[0], {"role": "assistant", "content": content}]
    if isinstance(content, list) and name != "gemma":
        with pytest.raises(PreprocessorError):
            tokenizer.apply_chat_template(messages, add_generation_prompt=False, continue_final_message=True)
        return
    options: dict[str, Any] = {"add_generation_prompt": False, "continue_final_message": True}
    expected = export(tokenizer, tmp_path).apply_chat_template(messages, tokenize=False, **options)
    assert tokenizer.apply_chat_template(messages, **options) == expected
    with pytest.raises(InputError, match="add_generation_prompt=False"):
        tokenizer.apply_chat_template(messages, continue_final_message=True)


def test_named_templates(tmp_path: Path) -> None:
    tokenizer = with_template("one", tool_use="two", rag="three")
    assert tokenizer.apply_chat_template(TALK) == "one"
    assert tokenizer.apply_chat_template(TALK, tools=TOOLS) == "two"
    assert tokenizer.apply_chat_template(TALK, template="rag", tools=TOOLS) == "three"
    with pytest.raises(OptionError, match="Did you mean 'tool_use'"):
        tokenizer.apply_chat_template(TALK, template="tools_use")
    theirs = export(tokenizer, tmp_path)
    assert theirs.apply_chat_template(TALK, tools=TOOLS, tokenize=False) == "two"


def test_the_messages_are_not_changed() -> None:
    messages = deepcopy(CALLS)
    with_template(CHATML).apply_chat_template(messages, tools=TOOLS)
    assert messages == CALLS


def test_no_template_says_what_to_do() -> None:
    with pytest.raises(PreprocessorError, match=r"has no chat template.*Give texts"):
        with_template(None).apply_chat_template(TALK)


def test_special_tokens_are_tokens_and_are_there_once(tmp_path: Path) -> None:
    tokenizer = with_template(LLAMA_2)
    text = tokenizer.apply_chat_template(TALK[:1])
    (row,) = tokenizer.encode_texts([text], add_special_tokens=False)
    assert row.ids.count(tokenizer.bos_token_id) == 1
    theirs = export(tokenizer, tmp_path).apply_chat_template(TALK[:1], return_dict=True)
    assert row.ids == theirs["input_ids"]


def test_without_jinja_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from hezar_like.preprocessors import chat_sandbox, chat_template

    chat_sandbox.environment.cache_clear()
    chat_template._compiled.cache_clear()
    with monkeypatch.context() as patched:
        patched.setitem(__import__("sys").modules, "jinja2", None)
        with pytest.raises(MissingDependency, match=r"hezar_like\[chat\]"):
            with_template(CHATML).apply_chat_template(TALK)
    with monkeypatch.context() as patched:
        patched.setattr("jinja2.__version__", "3.1.5")
        with pytest.raises(MissingDependency, match=r"3\.1\.6"):
            with_template(CHATML).apply_chat_template(TALK)
    assert with_template("yes").apply_chat_template(TALK) == "yes"


# -- files ----------------------------------------------------------------------------------------------------------

ODD = "{# ${x} #}\r\n  {{ messages[0].content }}\u2028\x85 'é' \t\n\n"


def test_saved_and_loaded_letter_for_letter(tmp_path: Path) -> None:
    tokenizer = with_template(ODD, tool_use=CHATML + "\r", rag="")
    tokenizer.save(tmp_path)
    assert (tmp_path / "preprocessor/chat_template.jinja").read_bytes() == ODD.encode()
    again = type(tokenizer).load(tmp_path)
    assert again.config.chat_template == ODD
    assert again.config.additional_chat_templates == {"tool_use": CHATML + "\r", "rag": ""}
    again.save(tmp_path / "second")
    for file in sorted((tmp_path / "preprocessor").rglob("*")):
        if file.is_file():
            assert (tmp_path / "second" / file.relative_to(tmp_path)).read_bytes() == file.read_bytes()


def test_a_tokenizer_without_one_writes_no_file(tmp_path: Path) -> None:
    with_template(None).save(tmp_path)
    assert not list(tmp_path.rglob("*.jinja"))


@pytest.mark.parametrize("others", [{}, {"tool_use": CHATML}])
@pytest.mark.parametrize("default", [LLAMA_3, None])
@pytest.mark.parametrize("rewritten", [False, True])
def test_to_transformers_and_back(default: str | None, others: dict[str, str], rewritten: bool, tmp_path: Path) -> None:
    theirs = export(with_template(default, **others), tmp_path)
    if rewritten:  # into files of their own
        theirs.save_pretrained(tmp_path)
        assert bool(list(tmp_path.rglob("*.jinja"))) == bool(default or others)
    again = tokenizer_from_transformers(lambda name: tmp_path / name if (tmp_path / name).is_file() else None)
    assert again is not None
    assert (again.config.chat_template, again.config.additional_chat_templates) == (default, others)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "default", "a.b"])
def test_names_that_are_no_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PreprocessorError, match="needs another name"):
        with_template("x", **{name: "y"}).save(tmp_path)


def test_a_hostile_saved_name_reads_no_other_file(tmp_path: Path) -> None:
    tokenizer = with_template("x", rag="y")
    tokenizer.save(tmp_path)
    path = tmp_path / "preprocessor/tokenizer_config.yaml"
    path.write_text(path.read_text().replace("additional_chat_templates/rag.jinja", "../../secret"))
    assert type(tokenizer).load(tmp_path).config.additional_chat_templates == {"rag": "../../secret"}


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    tokenizer = with_template("x")
    tokenizer.save(tmp_path)
    (tmp_path / "preprocessor/chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(PreprocessorError, match="chat_template.jinja"):
        type(tokenizer).load(tmp_path)


# -- wrong conversations and templates ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "is empty"),
        ("hi", "is a str"),
        (["hi"], "message 0 of the conversation is a str"),
        ([TALK[0], {"content": "a"}], "message 1 of the conversation has the role None"),
        ([{"role": 1, "content": "a"}], "has the role 1"),
        ([{"role": "user"}], "has the content None"),
        ([{"role": "user", "content": None}], "has the content None"),
        ([{"role": "user", "content": 3}], "has the content 3"),
        ([{"role": "user", "content": ["a"]}], "give a text, or a list of mappings"),
        ([{"role": "user", "content": "a", "image": object()}], "holds a object"),
    ],
)
def test_a_wrong_conversation(messages: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_template(CHATML).apply_chat_template(messages)


def test_a_refusal_of_the_template() -> None:
    with pytest.raises(InputError, match="refused by the chat template: Conversation roles must alternate"):
        with_template(LLAMA_2).apply_chat_template([TALK[1]])
    model = conversation_model(LLAMA_2)
    with pytest.raises(InputError, match="item 1 of the inputs .* Conversation roles must alternate"):
        model.predict([TALK, [TALK[1]]])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a\n\n{% if %}", "cannot be read in line 3"),
        ("a\n{% for x in messages %}", "cannot be read in line 2"),
        ("{{ 'a'|nonsense }}", "No filter named 'nonsense'"),
        ("a\n{{ messages[0].a.b }}", "failed in line 2: .*has no attribute 'a'"),
        ("{{ 'a' + 1 }}", "failed in line 1"),
        ("{% include 'x' %}", "Include in line 1"),
    ],
)
def test_a_broken_template_names_the_line(template: str, message: str) -> None:
    with pytest.raises(PreprocessorError, match=message):
        with_template(template).apply_chat_template(TALK)


# -- hostile templates ----------------------------------------------------------------------------------------------


def looped(start: str, step: str, end: str = "", times: int = 60) -> str:
    """A value that grows with each turn."""
    return (
        f"{{% set ns = namespace(x={start}, y={start}) %}}"
        f"{{% for i in range({times}) %}}{{% set ns.x = {step} %}}"
        f"{{% set ns.y = {step.replace('ns.x', 'ns.y')} %}}{{% endfor %}}{end}"
    )


BIG = "{% for i in range(100000) %}"
TREE = ("()", "(ns.x, ns.x)")
WORK = {
    "loops": f"{BIG}{BIG}{{% endfor %}}{{% endfor %}}",
    "loops that skip": f"{BIG}{{% for j in range(100000) if false %}}{{% endfor %}}{{% endfor %}}",
    "long body": BIG + "{% if i == 1 %}{% endif %}" * 2000 + "{% endfor %}",
    "text times": "{{ 'a' * 10**9 }}",
    "list times": "{{ ([0] * 10**9)|length }}",
    "sum": looped("'ab'", "ns.x + ns.x"),
    "list sum": looped("[1]", "ns.x + ns.x"),
    "concatenation": looped("'ab'", "ns.x ~ ns.x"),
    "block": looped("'ab'", "y").replace("{% set ns.x", "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x"),
    "join": looped("'ab'", "[ns.x, ns.x]|join"),
    "separators": "{% set x = 'a' * 1000000 %}{{ x.join(['b'] * 100000)|length }}",
    "separators of a filter": "{% set x = 'a' * 1000000 %}{{ (['b'] * 100000)|join(x)|length }}",
    "replace": looped("'ab'", "ns.x.replace('a', ns.x)"),
    "replace filter": looped("'ab'", "ns.x|replace('a', ns.x)"),
    "printed tree": looped(*TREE, "{{ ns.x }}"),
    "tree as JSON": looped(*TREE, "{{ ns.x|tojson }}"),
    "compared trees": looped(*TREE, "{{ ns.x == ns.y }}"),
    "tested trees": looped(*TREE, "{{ ns.x is eq ns.y }}"),
    "changed trees": looped(*TREE, "{% for z in [ns.x, ns.y] %}{{ loop.changed(z) }}{% endfor %}"),
    "hashed tree": looped(*TREE, "{{ {ns.x: 1} }}"),
    "key tree": looped(*TREE, "{{ {}[ns.x] }}"),
    "got tree": looped(*TREE, "{{ {}.get(ns.x) }}"),
    "unique tree": looped(*TREE, "{{ [ns.x]|unique|list }}"),
    "formatted tree": looped(*TREE, "{{ '%s' % ns.x }}"),
    "dict of a tree": looped(*TREE, "{{ dict([(ns.x, 1)]) }}"),
    "searched list": BIG + "{% set x = ('a' * 99999 ~ 'b') in ['a' * 100000] * 100 %}{% endfor %}",
    "slices": "{% set x = 'a' * 1000000 %}" + BIG + "{% set y = x[1:] %}{% endfor %}",
    "backward search": "{% set x = 'a' * 2000000 %}{{ x.rfind('b' ~ x[:1000000]) }}",
    "strip": "{% set x = 'a' * 2000000 %}{{ x.strip('bcdefgh' * 200000 ~ 'a') }}",
    "macro": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
    "recursive loop": "{% for x in [1, 2] recursive %}{% if loop.depth < 40 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}",
    "nested calls": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 15 + "x" * 1000 + "{% endcall %}" * 15,
    "lists added": "{{ ([range(10000)|list] * 10000)|sum(start=[])|length }}",
    "sort": BIG + "{% set x = range(100000)|sort %}{% endfor %}",
    "lazy filters": BIG + "{% set x = range(100000)|map('string')|select('none')|list %}{% endfor %}",
    "tests of all": BIG + "{% set x = range(100000)|select('none')|first %}{% endfor %}",
    "JSON": BIG + "{% set y = (range(10000)|list)|tojson(indent=8) %}{% endfor %}",
    "calls": "{% set c = cycler('a', 'b') %}" + BIG + BIG + "{% set x = c.next() %}{% endfor %}{% endfor %}",
    "sets": "{% set d = dict.fromkeys(range(100000)) %}" + BIG + "{% set y = d.keys() - d.keys() %}{% endfor %}",
    "arguments": "{% macro m() %}{{ varargs[0] }}{% endmacro %}" + BIG + "{{ m(*range(100000)) }}{% endfor %}",
    "arguments of a filter": BIG + "{% set x = 1|default(*range(100000)) %}{% endfor %}",
    "numbers read": "{% set x = '1' * 100000 %}" + BIG + "{% set y = x|float %}{% endfor %}",
    "earning": "{% set x = ['-999999999']|map('int')|map('count step')|list %}" + BIG + BIG + "{% endfor %}{% endfor %}",
}  # fmt: skip
REFUSED = {
    "format %": ("{{ '%1000000000d' % 1 }}", "pads a text"),
    "format % *": ("{{ '%*d' % (1000000000, 1) }}", "takes the width"),
    "format": ("{{ '{:1000000000}'.format(1) }}", "pads a text"),
    "format of format": ("{{ '{:{}}'.format(1, 1000000000) }}", "takes the width"),
    "format map": ("{{ '{a:999999999}'.format_map({'a': 1}) }}", "pads a text"),
    "format filter": ("{{ '%999999999d'|format(1) }}", "pads a text"),
    "center": ("{{ 'a'|center(10**9) }}", "pads a text"),
    "constant center": ("{{ 'a'|center(1000000000) }}", "pads a text"),
    "ljust": ("{{ 'a'.ljust(10**9) }}", "pads a text"),
    "indent": ("{{ 'a\n\nb'|indent(10**9) }}", "pads a text"),
    "batch": ("{{ [1]|batch(10**9, 0)|list }}", "pads a text"),
    "slice": ("{{ [1]|slice(10**9)|list|length }}", "pads a text"),
    "power": ("{{ 3 ** 99999 }}", "number that is too large"),
    "squares": (looped("3", "ns.x * ns.x"), "number that is too large"),
    "doubled number": (looped("3", "ns.x + ns.x", times=90000), "number that is too large"),
    "number of letters": ("{{ ('f' * 1000000)|int(0, 16) }}", "number that is too large"),
    "range": ("{{ range(10**9) }}", "Range too big"),
    "JSON indent": ("{{ [1]|tojson(indent=10**9) }}", "indent or separators"),
    "JSON separators": ("{{ [1]|tojson(separators=('a' * 99, ':')) }}", "indent or separators"),
    "date": ("{{ strftime_now('%Y' * 1000) }}", "more than 200 characters"),
    "path": ("{{ messages|map(attribute='a.' * 1000, default='a')|list }}", "path of more than"),
    "nesting": (looped("[]", "[ns.x]", "{{ ns.x }}", times=100), "deeper than 64"),
    "endless macro": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    "endless loop": ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "recursion"),
    "output": (BIG + "{{ 'x' * 1000 }}{% endfor %}", "writes more than"),
    "long": ("x" * 300_000, "the most is"),
    "parentheses": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "cannot be read"),
    "nested loops": ("{% for a in [1] %}" * 50 + "{% endfor %}" * 50, "cannot be read"),
    "nested conditions": ("{% if 1 %}" * 3000 + "{% endif %}" * 3000, "cannot be read"),
    "digits": ("{{ " + "9" * 100_000 + " }}", "cannot be read"),
    "class": ("{{ ''.__class__.__mro__ }}", "unsafe"),
    "class of format": ("{{ '{0.__class__.__mro__}'.format(1) }}", "unsafe"),
    "globals": ("{{ namespace.__init__.__globals__ }}", "unsafe"),
    "macro's function": ("{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}", "unsafe"),
    "namespace": ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "cannot hold"),
    "change": ("{{ messages.append(1) }}", "unsafe"),
    "generator": ("{{ (messages|map('upper')).send(1) }}", "calls 'send'"),
    "bytes": ("{{ (1).to_bytes(10**9, 'big') }}", "calls 'to_bytes'"),
    "tabs": ("{{ '\t'.expandtabs(10**9) }}", "calls 'expandtabs'"),
    "block": ("{% block a %}{{ self.a() }}{% endblock %}", "Block in line 1"),
    "import": ("{% import 'os' as os %}", "Import in line 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORK)
def test_work_is_limited(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a hundredth of the limit too: what counts is that all work is counted, not how fast this computer is."""
    monkeypatch.setattr(chat_budget, "MOST_WORK", 40_000)
    with pytest.raises(PreprocessorError, match="does more work"):
        render(WORK[name], TALK, variables={})


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_asked_at_once_is_refused(name: str) -> None:
    template, message = REFUSED[name]
    with pytest.raises(PreprocessorError, match=message):
        render(template, TALK, variables={})


@pytest.mark.parametrize("name", ["loops", "printed tree", "macro", "recursive loop", "lazy filters"])
def test_the_whole_budget_is_soon_spent(name: str) -> None:
    start = time.process_time()
    with pytest.raises(PreprocessorError, match="does more work"):
        render(WORK[name], TALK, variables={})
    assert time.process_time() - start < 30  # about one; without a limit it would be years


def test_a_namespace_does_not_show_what_it_holds() -> None:
    text = render(looped("1", "namespace(a=ns.x, b=ns.x)", "{{ ns.x }}"), TALK, variables={})
    assert text == "<Namespace>"


def test_a_long_conversation_fits_the_budget() -> None:
    talk = [{"role": "user" if i % 2 == 0 else "assistant", "content": "a b c " * 70} for i in range(2000)]
    assert len(render(CHATML, talk, variables={})) > 800_000


# -- as inputs of a model -------------------------------------------------------------------------------------------


def test_predict_answers_a_conversation() -> None:
    model = conversation_model()
    tokenizer = model.preprocessor.tokenizer
    (record,) = model.predict(TALK, max_new_tokens=8)
    text = tokenizer.apply_chat_template(TALK)
    (row,) = tokenizer.encode_texts([text], add_special_tokens=False)
    batch = model.preprocess(TALK, max_new_tokens=8)
    limit = model.backbone.max_tokens - 8
    assert batch["token_ids"][0].tolist() == row.ids[-limit:]
    written = model.generate(token_ids=batch["token_ids"], attention_mask=batch["attention_mask"], max_new_tokens=8)
    assert record["text"] == tokenizer.decode([written[0, batch["token_ids"].size(1) :].tolist()])[0]
    assert record == model.predict({"messages": TALK}, max_new_tokens=8)[0]
    assert model.predict([TALK], max_new_tokens=8) == [record]


def test_a_batch_gives_what_single_conversations_give() -> None:
    model = conversation_model(GEMMA)
    inputs: list[Any] = [TALK[:1], SYSTEM, {"messages": CALLS[:1], "tools": TOOLS}, TALK, "a cat sat", {"text": "dog"}]
    single = [model.predict(item, max_new_tokens=6)[0] for item in inputs]
    assert model.predict(inputs, max_new_tokens=6) == single
    assert model.predict(iter(inputs), batch_size=2, max_new_tokens=6) == single


def test_streaming_a_conversation() -> None:
    model = conversation_model(GEMMA)
    inputs: list[Any] = [TALK[:1], SYSTEM, "a cat"]
    expected = [record["text"] for record in model.predict(inputs, max_new_tokens=6)]
    texts = [""] * len(inputs)
    for index, piece in model.stream(inputs, max_new_tokens=6):
        texts[index] += piece
    assert texts[:2] == expected[:2]
    assert expected[2].endswith(texts[2])
    assert "".join(piece for _, piece in model.stream(TALK[:1], max_new_tokens=6)) == expected[0]


def test_options_beside_the_messages() -> None:
    model = conversation_model()
    tokenizer = model.preprocessor.tokenizer
    given = {"messages": TALK[:1], "tools": TOOLS, "variables": {"enable_thinking": False}}
    batch = model.preprocess([given], max_new_tokens=1)
    text = tokenizer.apply_chat_template(TALK[:1], tools=TOOLS, enable_thinking=False)
    assert batch.inputs[0].text == text


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([], "conversation is empty"),
        ({"messages": []}, "conversation is empty"),
        ({"messages": None}, "is a NoneType"),
        ([{"content": "a"}], "message 0 of the conversation has the role None"),
        ([{"role": "user", "content": None}], "message 0 of the conversation has the content None"),
        ({"messages": TALK, "tool": TOOLS}, "Did you mean 'tools'"),
        ({"messages": TALK, "tools": ["a"]}, "tools of the conversation must be a list of mappings"),
        ({"messages": TALK, "variables": 3}, "variables that are no mapping"),
        ({"messages": TALK, "variables": {"tools": 3}}, "sets 'tools' among the variables"),
    ],
)
def test_a_wrong_conversation_is_named_by_its_index(item: Any, message: str) -> None:
    model = conversation_model()
    with pytest.raises(InputError, match=message) as caught:
        model.predict(["a text", TALK, item], max_new_tokens=2)
    assert caught.value.index == 2


def test_half_a_character_in_a_conversation_is_named_by_its_index() -> None:
    bad = [{"role": "user", "content": "\ud800"}]
    with pytest.raises(InputError, match="lone surrogate") as caught:
        conversation_model(MARKED).predict(["a text", TALK, bad], max_new_tokens=2)
    assert caught.value.index == 2


def test_no_inputs_are_no_conversation() -> None:
    assert conversation_model().predict([]) == []
