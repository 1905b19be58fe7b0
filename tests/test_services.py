"""
The services as data: what the documents say, and whose host is whose.
"""

import pickle

from typing import get_args

import attrs
import pytest

from horay_async._services import (
    COMPATIBLE,
    EMPOWER,
    HORAY,
    HorayChatModel,
    HorayCompletionModel,
    ImageSize,
    OneOf,
    Range,
    service_of,
)


def test_addresses():
    assert HORAY.base_url == "https://api.horay.ai/v1"
    assert EMPOWER.base_url == "https://app.empower.dev/api/v1"
    assert COMPATIBLE.base_url is None


def test_paths():
    """
    Horay's image path is singular, OpenAI's is not.
    """
    assert HORAY.chat.path == "/chat/completions"
    assert HORAY.completions.path == "/completions"
    assert HORAY.images.path == "/image/generations"
    assert HORAY.models.path == "/models"
    assert HORAY.user_info.path == "/user/info"
    assert EMPOWER.chat.path == "/chat/completions"
    assert (EMPOWER.completions, EMPOWER.images, EMPOWER.models) == (None, None, None)
    assert COMPATIBLE.images.path == "/images/generations"


def test_documented_defaults():
    """
    What the three pages print beside their parameters.
    """
    assert HORAY.chat.defaults == {
        "max_tokens": 512,
        "temperature": 0.7,
        "top_p": 0.7,
        "top_k": 50,
        "frequency_penalty": 0.5,
        "n": 1,
    }
    assert HORAY.completions.defaults == {}
    assert EMPOWER.chat.defaults == {
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "ignore_eos": False,
        "max_tokens": 256,
        "n": 1,
        "temperature": 1,
        "top_p": 1,
    }


def test_models():
    """
    The lists differ; the slash that one page had lost is back.
    """
    chat, text = set(get_args(HorayChatModel)), set(get_args(HorayCompletionModel))
    assert (len(chat), len(text)) == (20, 14)
    assert text - chat == {"deepseek-ai/DeepSeek-V2.5"}
    assert "nvidia/Llama-3.1-Nemotron-70B-Instruct" in chat & text
    assert HORAY.chat.model in chat
    assert HORAY.completions.model in text
    assert len(get_args(ImageSize)) == 6


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "words"),
    [
        (Range(1, 128), (1, 64, 128), (0, 129), "1 to 128"),
        (Range(0.0), (0, 1e9), (-0.1,), "at least 0.0"),
        (Range(high=5), (-1e9, 5), (5.1,), "at most 5"),
        (OneOf(("a", "b")), ("a", "b"), ("c", None, 1), "one of a, b"),
    ],
)
def test_limits(allowed, inside, outside, words):
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)
    assert str(allowed) == words


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("https://api.horay.ai/v1", HORAY),
        ("https://HORAY.ai", HORAY),
        ("https://openrouter.horay.ai:8443/v1", HORAY),
        ("https://app.empower.dev/api/v1", EMPOWER),
        ("https://horay.ai.evil.example/v1", COMPATIBLE),
        ("https://nothoray.ai/v1", COMPATIBLE),
        ("https://evil.example/?https://api.horay.ai", COMPATIBLE),
        ("http://localhost:8000/v1", COMPATIBLE),
        ("not a url", COMPATIBLE),
        ("", COMPATIBLE),
    ],
)
def test_whose_host(url, service):
    """
    A vendor's key goes to the vendor's own hosts only.
    """
    assert service_of(url) is service
    assert not COMPATIBLE.owns(url)


def test_services_are_values():
    mine = attrs.evolve(HORAY, base_url="http://localhost/v1")
    assert mine != HORAY
    assert pickle.loads(pickle.dumps(mine)) == mine
