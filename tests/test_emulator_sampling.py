"""
The emulator's sampler against the definition of every parameter, on a toy vocabulary.
"""

import math
import random

from collections import Counter

import pytest

from horay_async.emulator._sampling import Sampled, Sampler, Sampling
from horay_async.emulator._vocabulary import Vocabulary, split


TOY = Vocabulary(split(" one two three four five six seven eight nine ten."))
EXPECTED = {0: 0.4, 3: 0.3, 2: 0.2, 9: 0.05, TOY.eos_id: 0.05}
(ACUTE,) = TOY.encode("é")
SAID = (3, 9, 9, 7, 8, 8, TOY.id("."))


def toy(sampling, rng=None):
    """
    A sampler that has just said :data:`SAID`.
    """
    sampler = Sampler(TOY, sampling, (2, 3), rng or random.Random(1))
    for id_ in SAID:
        assert sampler.draw({id_: 1e200}).id == id_
    return sampler


def reference(sampling):
    """
    The probability of every token, by the book: one list, no shortcuts.
    """
    bias = sampling.logit_bias
    ids = [*EXPECTED, *({*range(TOY.words), *bias} - {*EXPECTED})]
    rater = Sampler(TOY, Sampling(), (), random.Random())
    rest = next(id_ for id_ in range(TOY.words) if id_ not in EXPECTED)
    zero = rater.rate(rest, EXPECTED).logprob
    logits = {}
    for id_ in ids:
        logit = rater.rate(id_, EXPECTED).logprob - zero + bias.get(id_, 0)
        if id_ in {2, 3, *SAID}:
            penalty = sampling.repetition_penalty
            logit = logit / penalty if logit > 0 else logit * penalty
        logit -= sampling.frequency_penalty * SAID.count(id_)
        logit -= sampling.presence_penalty * (id_ in SAID)
        if bias.get(id_, 0) > -100 and not (sampling.ignore_eos and id_ == TOY.eos_id):
            logits[id_] = logit / sampling.temperature
    ranked = sorted(logits, key=logits.__getitem__, reverse=True)
    shares = {id_: math.exp(logits[id_] - logits[ranked[0]]) for id_ in ranked}
    kept = [id_ for id_ in ranked if shares[id_] >= sampling.min_p]
    kept = kept[: sampling.top_k] if sampling.top_k > 0 else kept
    total, nucleus = sum(shares[id_] for id_ in kept), []
    while kept and sum(map(shares.get, nucleus)) < sampling.top_p * total:
        nucleus.append(kept.pop(0))
    total = sum(map(shares.get, nucleus))
    return {id_: shares[id_] / total for id_ in nucleus}


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 4.0},
        {"temperature": 4.0, "top_k": 7},
        {"temperature": 4.0, "top_k": 14},
        {"temperature": 4.0, "top_p": 0.9},
        {"temperature": 4.0, "top_p": 0.95},
        {"temperature": 4.0, "min_p": 0.3},
        {"temperature": 3.0, "min_p": 0.01, "top_k": 13, "top_p": 0.95},
        {"temperature": 4.0, "frequency_penalty": 2.0, "presence_penalty": 1.0},
        {"temperature": 4.0, "frequency_penalty": -1.5, "presence_penalty": -1.0},
        {"temperature": 4.0, "presence_penalty": -2.0, "top_p": 0.8},
        {"temperature": 4.0, "frequency_penalty": 2.0, "top_p": 0.99},
        {"temperature": 4.0, "repetition_penalty": 1.5},
        {"temperature": 2.0, "repetition_penalty": 0.8, "ignore_eos": True},
        {"temperature": 2.0, "logit_bias": {0: -100, 7: 9.5, 5: -100}},
        {"temperature": 2.0, "logit_bias": {TOY.eos_id: -2.0, 2: 1.0, 4: 5.0}},
        {"temperature": 2.0, "logit_bias": {ACUTE: 9.0}},
    ],
    ids=str,
)
def test_draws_by_the_definition(parameters):
    """
    Over the whole vocabulary, tokens come as often as their definition says.
    """
    sampling = Sampling(**parameters)
    wanted = reference(sampling)
    rng, count = random.Random(1), 3000
    # The same state every time: drawing again would add to what was said.
    drawn = Counter(toy(sampling, rng).draw({**EXPECTED}).id for _ in range(count))
    assert {*drawn} <= {*wanted}
    for id_, share in wanted.items():
        deviation = math.sqrt(share * (1 - share) / count)
        assert abs(drawn[id_] / count - share) <= 4.5 * deviation + 2 / count


def test_shares_make_one():
    """
    The probabilities of all tokens make 1, one that only a bias brings in included.
    """
    everything = Sampling(top_logprobs=TOY.size, logit_bias={ACUTE: 1.0})
    token = Sampler(TOY, everything, (), random.Random(1)).draw({**EXPECTED})
    assert len(token.top) == TOY.words + 2
    total = math.fsum(math.exp(logprob) for _, _, logprob in token.top)
    assert total == pytest.approx(1, rel=1e-9)


def test_everything_banned():
    """
    With no token left to say, the text ends.
    """
    bias = dict.fromkeys([*range(TOY.words), TOY.eos_id], -100.0)
    sampler = Sampler(TOY, Sampling(logit_bias=bias), (), random.Random(1))
    assert sampler.draw({**EXPECTED}) == Sampled(
        "", TOY.eos_id, pytest.approx(math.log(0.05), abs=1e-3), ()
    )
