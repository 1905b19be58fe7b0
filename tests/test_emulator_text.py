"""
The emulator's model: text that is plausible, parameters that do what they say.
"""

import math
import random
import statistics

from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from itertools import islice

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from horay_async.emulator import _text
from horay_async.emulator._text import Model, Sampling, load


PROMPT = "What do you think of Mr. Darcy?"

SURROGATES_TOO = st.text(st.characters(exclude_categories=()))


@pytest.fixture(scope="module")
def model():
    return load()


def draw(model, count=60, prompt=PROMPT, choice=0, fresh=True, **parameters):
    tokens = model.generate(prompt, Sampling(**parameters), choice, fresh=fresh)
    return list(islice(tokens, count))


def say(model, count=60, **parameters):
    return "".join(token.text for token in draw(model, count, **parameters))


# Tokens


@settings(deadline=None)
@given(SURROGATES_TOO | st.from_regex(r"[A-Za-z' .\n“”—-]*", fullmatch=True))
def test_round_trip(text):
    """
    Any text becomes tokens and the same text again, lone surrogates included.
    """
    model = load()
    ids = model.tokenize(text)
    assert model.detokenize(ids) == text
    assert model.count(text) == len(ids)
    assert all(0 <= id_ < model.vocab_size for id_ in ids)


def test_counts_are_sensible(model):
    """
    Known words are one token, unknown words a few, other scripts one a character.
    """
    assert model.count("She was a most agreeable woman.") == 7
    assert 3 <= model.count(" internationalisation") <= 8
    assert model.count("文字") == 2
    assert model.count("") == 0
    text = resources.files("horay_async.emulator").joinpath("CORPUS.md").read_text()
    assert 2 < len(text) / model.count(text) < 5


def test_no_such_token(model):
    for id_ in (-1, model.eos_id + 1, model.vocab_size):
        with pytest.raises(ValueError, match="no token has the id"):
            model.detokenize([id_])


def test_end_adds_no_text(model):
    assert model.detokenize([*model.tokenize("Yes."), model.eos_id]) == "Yes."


def test_texts_and_ids_agree(model):
    """
    A token's text is what its id stands for.
    """
    tokens = draw(model, 200, seed=1, temperature=1.5, ignore_eos=True)
    ids = [token.id for token in tokens]
    assert "".join(token.text for token in tokens) == model.detokenize(ids)


# Seeds


def test_same_seed_same_text(model):
    assert say(model, seed=7) == say(model, seed=7)


@pytest.mark.parametrize("seed", [0, -1, 2**70])
def test_seeds_and_choices_differ(model, seed):
    texts = {say(model, seed=seed + more) for more in range(5)}
    texts |= {say(model, seed=seed, choice=choice) for choice in range(1, 6)}
    assert len(texts) == 10
    assert say(model, seed=seed, choice=3) == say(model, seed=seed, choice=3)


def test_no_seed_is_fresh(model):
    assert len({say(model) for _ in range(5)}) > 1


def test_greedy_is_deterministic(model):
    """
    At temperature 0 neither seed nor choice matters.
    """
    texts = {
        say(model, temperature=0, seed=seed, choice=choice)
        for seed in (None, None, 1, 2)
        for choice in (0, 1)
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    "narrow", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}, {"temperature": 1e-9}]
)
def test_narrowest_is_greedy(model, narrow):
    wide = draw(model, temperature=0)
    assert draw(model, **narrow) == wide


def test_prompts_differ(model):
    """
    Even greedy answers to different prompts are different.
    """
    prompts = [f"Question {number}: why?" for number in range(40)]
    assert len({say(model, prompt=prompt, temperature=0) for prompt in prompts}) > 35


# The text


def test_reads_naturally(model):
    """
    Every quotation mark is closed, and spaces stand where they belong.
    """
    for seed in range(3):
        text = say(model, 2000, seed=seed, ignore_eos=True)
        marks = [mark for mark in text if mark in "“”"]
        assert len(marks) > 20
        pairs = zip(marks[::2], marks[1::2], strict=False)
        assert {*pairs} == {("“", "”")}
        for wrong in ("  ", " ,", " .", "“ ", " ”", "\n "):
            assert wrong not in text


def test_length_is_life_like(model):
    """
    Left alone, answers run to a few sentences and end with one.
    """
    answers = [draw(model, 2000, seed=seed) for seed in range(200)]
    deciles = statistics.quantiles(map(len, answers), n=10)
    assert deciles[0] >= 20
    assert 50 <= deciles[4] <= 120
    assert deciles[-1] <= 250
    assert {answer[-1].text for answer in answers} <= {*".!?”"}
    texts = ["".join(token.text for token in answer) for answer in answers]
    assert all(text.count("“") == text.count("”") for text in texts)


def test_greedy_ends(model):
    assert len(draw(model, 2000, temperature=0)) < 500


def test_fresh_starts_a_sentence(model):
    for seed in range(20):
        text = say(model, 3, seed=seed)
        assert text.lstrip("“")[0].isupper()


def test_goes_on_from_the_prompt(model):
    """
    A completion takes up the words, the open quotation and the space of the prompt.
    """

    def complete(prompt):
        return say(model, 1, prompt=prompt, fresh=False, temperature=0)

    assert complete("It is a truth universally") == " acknowledged"
    assert complete("It is a truth universally ") == "acknowledged"
    starts = {complete(f"He went away for {days} days.\n") for days in range(20)}
    assert all(start == "“" or start[0].isupper() for start in starts)
    text = say(model, 400, prompt='She said, "I', fresh=False, ignore_eos=True, seed=1)
    assert text.index("”") < text.index("“")


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "prompt", ["", "\n", "Yes.", "文字", "\ud800", "x" * 5000, "“"]
)
def test_any_prompt(model, prompt, fresh):
    """
    There is an answer to everything.
    """
    text = say(model, 30, prompt=prompt, fresh=fresh, seed=1, repetition_penalty=1.2)
    assert text.strip()


@pytest.mark.parametrize("prompt", ["", "One", "She: “", "four"])
def test_any_text(prompt):
    """
    A model over a few words, and with nothing after its last one, goes on all the same.
    """
    tiny = Model("One two three. One two: “")
    assert len(draw(tiny, 50, prompt=prompt, ignore_eos=True, fresh=False)) == 50


def test_prompt_words_are_heeded(model):
    """
    What the prompt speaks of comes up more often.
    """

    def mentions(prompt):
        texts = [say(model, 300, prompt=prompt, seed=n) for n in range(40)]
        return sum(text.count("letter") for text in texts)

    assert mentions("Tell me of a letter.") > 1.5 * mentions("Tell me of a horse.")


# Parameters


def test_temperature(model):
    """
    The lower it is, the fewer different words are used, and the likelier they are.
    """
    distinct, surprise = [], []
    for temperature in (0.1, 0.6, 1.0, 2.0):
        tokens = [
            token
            for seed in range(10)
            for token in draw(
                model, seed=seed, temperature=temperature, ignore_eos=True
            )
        ]
        distinct.append(len({token.id for token in tokens}))
        surprise.append(-statistics.fmean(token.logprob for token in tokens))
    assert distinct == sorted(distinct)
    assert surprise == sorted(surprise)
    assert 1.5 * distinct[0] < distinct[-1]


@pytest.mark.parametrize(
    "penalty",
    [
        {"frequency_penalty": 1.5},
        {"presence_penalty": 1.5},
        {"repetition_penalty": 1.4},
    ],
    ids=str,
)
def test_penalties_reduce_repeats(model, penalty):
    def distinct(**parameters):
        return sum(
            len({token.id for token in draw(model, 200, seed=seed, **parameters)})
            for seed in range(6)
        )

    common = {"temperature": 0.5, "ignore_eos": True}
    assert distinct(**common, **penalty) > 1.05 * distinct(**common)


def test_repetition_penalty_counts_the_prompt(model):
    """
    What the prompt has is penalised as what the answer has.
    """

    def marks(penalty):
        first = [
            say(model, 1, prompt="“", seed=seed, repetition_penalty=penalty)
            for seed in range(60)
        ]
        return first.count("“")

    assert marks(3.0) < 0.3 * marks(1.0)


@pytest.mark.parametrize("temperature", [0, 1, 2])
def test_bias_forces(model, temperature):
    """
    +100 brings any token: a word, a piece of one, a character of another script.
    """
    for text in (" Darcy", " gaiety", "ble", "é", "🙂"):
        (id_,) = model.tokenize(text)
        bias = {id_: 100.0}
        tokens = draw(model, 20, temperature=temperature, seed=1, logit_bias=bias)
        assert "".join(token.text for token in tokens) == 20 * text
        assert all(-40 < token.logprob <= 0 for token in tokens)


@pytest.mark.parametrize("temperature", [0, 1])
def test_bias_bans(model, temperature):
    parameters = {"temperature": temperature, "seed": 1, "ignore_eos": True}
    used = {token.id for token in draw(model, 300, **parameters)}
    banned = dict.fromkeys(used, -100.0)
    tokens = draw(model, 300, logit_bias=banned, **parameters)
    assert len(tokens) == 300
    assert not used & {token.id for token in tokens}


def test_bias_leans(model):
    """
    A small bias makes a token more frequent, a small negative one less.
    """
    (comma,) = model.tokenize(",")

    def commas(bias):
        tokens = draw(model, 2000, seed=1, logit_bias={comma: bias}, ignore_eos=True)
        return sum(token.id == comma for token in tokens)

    assert commas(-2.0) < 0.7 * commas(0.0) < 0.5 * commas(2.0)


def test_bias_on_the_end(model):
    assert draw(model, logit_bias={model.eos_id: 100.0}) == []
    assert len(draw(model, 2000, seed=1, logit_bias={model.eos_id: -100.0})) == 2000
    both = {"ignore_eos": True, "logit_bias": {model.eos_id: 100.0}}
    assert len(draw(model, 50, **both)) == 50


def test_bias_on_no_token(model):
    """
    Ids of nothing, or of half a character, are as if they were not there.
    """
    (surrogate,) = model.tokenize("\ud800")
    bias = dict.fromkeys((-1, model.eos_id + 1, model.vocab_size, surrogate), 100.0)
    assert say(model, temperature=0, logit_bias=bias) == say(model, temperature=0)


@pytest.mark.parametrize("temperature", [0, 1])
def test_ignore_eos_never_ends(model, temperature):
    parameters = {"temperature": temperature, "seed": 1}
    assert len(draw(model, 2000, ignore_eos=True, **parameters)) == 2000
    assert len(draw(model, 2000, **parameters)) < 2000


# Probabilities


@pytest.mark.parametrize(
    "parameters", [{}, {"temperature": 2.0}, {"top_k": 5, "frequency_penalty": 1.0}]
)
def test_logprobs(model, parameters):
    tokens = draw(model, 300, seed=1, top_logprobs=20, ignore_eos=True, **parameters)
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top) == 20
        assert len({id_ for _, id_, _ in token.top}) == 20
        logprobs = [logprob for _, _, logprob in token.top]
        assert logprobs == sorted(logprobs, reverse=True)
        assert sum(map(math.exp, logprobs)) <= 1 + 1e-9
        top = {id_: (text, logprob) for text, id_, logprob in token.top}
        if token.id in top:
            assert top[token.id] == (token.text, token.logprob)
        else:
            assert token.logprob <= logprobs[-1]
        token.text.encode()


def test_logprobs_are_the_models_own(model):
    """
    Neither temperature nor penalties nor bias change what is reported.
    """
    (first,) = draw(model, 1, temperature=0, top_logprobs=3)
    for parameters in (
        {"temperature": 0.01},
        {"top_k": 1},
        {"temperature": 0, "frequency_penalty": 2.0, "repetition_penalty": 1.5},
        {"temperature": 0, "logit_bias": {first.id: 3.0}},
    ):
        assert draw(model, 1, top_logprobs=3, **parameters) == [first]


def test_score(model):
    """
    A text's own tokens and how likely they were: English more than the same words mixed.
    """
    english = "It is a truth universally acknowledged, that a single man"
    tokens = list(model.score(english, top_logprobs=2))
    assert [token.id for token in tokens] == model.tokenize(english)
    assert "".join(token.text for token in tokens) == english
    assert all(token.logprob <= 0 and len(token.top) == 2 for token in tokens)
    words = english.split()
    random.Random(1).shuffle(words)
    mixed = sum(token.logprob for token in model.score(" ".join(words)))
    assert sum(token.logprob for token in tokens) > mixed + 20


# Loading


def test_load_once():
    """
    Whichever thread asks first: there is one model.
    """
    _text._load.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda _: load(), range(4)))
    assert len({id(model) for model in models}) == 1


def test_corpus():
    """
    The text is whole, clean, and nothing but the novel.
    """
    folder = resources.files("horay_async.emulator")
    text = folder.joinpath("corpus.txt").read_bytes().decode()
    assert 200_000 < len(text) < 400_000
    assert not {*text} & {*"\r\t\x00\ufeff_*["}
    assert "gutenberg" not in text.lower()
    assert text.count("“") == text.count("”")
