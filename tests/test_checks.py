"""
What a field's value may be: types, finiteness, emptiness, and how an error says so.
"""

import decimal
import enum
import fractions
import json
import math
import numbers
import types

import pytest

from horay_async._codec import pack
from horay_async._errors import HorayError, InvalidRequestError
from horay_async._requests import ChatRequest, CompletionRequest, ImageRequest
from horay_async._values import Function, Message, ToolCall, assistant, tool, user


ASK = [{"role": "user", "content": "Hello"}]


def chat(**fields):
    return ChatRequest(**{"messages": ASK, **fields})


def text(**fields):
    return CompletionRequest(**{"prompt": "Once", **fields})


def image(**fields):
    return ImageRequest(**{"prompt": "sea", **fields})


def refusal(make, **fields):
    """
    The error that building raises.
    """
    with pytest.raises(InvalidRequestError) as caught:
        make(**fields)
    assert isinstance(caught.value, HorayError)
    assert isinstance(caught.value, ValueError)
    return caught.value


class Whole:
    """
    An integer of another library, as numpy's are.
    """

    def __init__(self, value):
        self.value = value

    def __int__(self):
        return self.value


class Real:
    """
    A number of another library.
    """

    def __init__(self, value):
        self.value = value

    def __float__(self):
        return float(self.value)


numbers.Integral.register(Whole)
numbers.Real.register(Real)


class Colour(enum.Enum):
    RED = "red"


class Role(enum.StrEnum):
    USER = "user"


# Scalars ---------------------------------------------------------------------------


INTEGERS = ["max_tokens", "top_k", "n", "seed", "max_completion_tokens", "top_logprobs"]
NUMBERS = [
    "temperature",
    "top_p",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
]
FLAGS = ["ignore_eos", "logprobs", "parallel_tool_calls", "include_thinking", "store"]
STRINGS = ["model", "user", "reasoning_effort", "service_tier"]


@pytest.mark.parametrize("field", INTEGERS)
def test_integers(field):
    assert getattr(chat(**{field: 3}), field) == 3
    found = getattr(chat(**{field: Whole(3)}), field)
    assert (found, type(found)) == (3, int)
    for wrong in (True, 1.0, "3", [3], math.nan):
        error = refusal(chat, **{field: wrong})
        assert error.field == field
        assert str(error).startswith(f"{field} = {wrong!r}: expected an integer")


@pytest.mark.parametrize("field", NUMBERS)
def test_numbers(field):
    for right in (0, 1, 0.5, -1.5):
        found = getattr(chat(**{field: right}), field)
        assert (found, type(found)) == (right, type(right))
    assert getattr(chat(**{field: Real(2)}), field) == 2.0
    assert getattr(chat(**{field: Whole(2)}), field) == 2
    assert getattr(chat(**{field: fractions.Fraction(1, 2)}), field) == 0.5
    for wrong in (True, "1", [1], decimal.Decimal(1), 1j):
        assert f"{field} = {wrong!r}: expected a num" in str(
            refusal(chat, **{field: wrong})
        )
    for wrong in (math.nan, math.inf, -math.inf):
        error = refusal(chat, **{field: wrong})
        assert str(error) == f"{field} = {wrong}: expected a finite number"


@pytest.mark.parametrize("field", FLAGS)
def test_flags(field):
    assert getattr(chat(**{field: True}), field) is True
    for wrong in (1, 0, "true", "False"):
        assert "expected True or False" in str(refusal(chat, **{field: wrong}))


@pytest.mark.parametrize("field", STRINGS)
def test_strings(field):
    assert getattr(chat(**{field: "x"}), field) == "x"
    assert refusal(chat, **{field: 5}).field == field
    refusal(chat, **{field: b"x"})


def test_least_values():
    """
    Only where anything less has no meaning, whoever the server is.
    """
    for field in ("n", "max_tokens", "max_completion_tokens"):
        assert str(refusal(chat, **{field: 0})) == (
            f"{field} = 0: expected an integer of at least 1"
        )
    refusal(chat, top_logprobs=-1)
    refusal(text, n=0)
    refusal(text, best_of=0)
    refusal(text, max_tokens=-1)
    # With `echo` this scores the prompt.
    assert text(max_tokens=0).max_tokens == 0
    assert chat(top_k=-1, seed=-5).top_k == -1


def test_fields_of_text_and_images():
    assert text(logprobs=True).logprobs is True
    assert text(logprobs=5).logprobs == 5
    refusal(text, logprobs="all")
    refusal(text, logprobs=-1)
    refusal(text, echo=1)
    refusal(text, suffix=1)
    refusal(image, prompt=None)
    refusal(image, prompt=["sea"])
    refusal(image, image_size=1024)
    refusal(image, seed=1.5)
    refusal(image, model="")


def test_values_are_shortened():
    """
    An error shows the beginning and the end of a long value, and survives any value.
    """
    message = str(refusal(chat, temperature="x" * 10_000))
    assert len(message) < 120
    assert "..." in message
    assert str(refusal(chat, user=10**5000)) == "user = a int: expected a string"

    class Rude:
        def __repr__(self):
            raise RuntimeError

    assert "user = <Rude instance" in str(refusal(chat, user=Rude()))


# Fields with a shape of their own ----------------------------------------------------


def test_stop():
    """
    A string or several; a list on the wire, as the documents name no bare string.
    """
    assert chat(stop="END").stop == ("END",)
    assert chat(stop=["a", "b"]).stop == ("a", "b")
    assert chat(stop=()).stop == ()
    assert json.loads(pack(chat(stop="END"), stream=False))["stop"] == ["END"]
    assert refusal(chat, stop=["a", 1]).field == "stop[1]"
    refusal(chat, stop=5)
    refusal(chat, stop=b"x")
    refusal(chat, stop={"a": 1})


def test_logit_bias():
    assert chat(logit_bias={5: 1, "7": -0.5}).logit_bias == {"5": 1, "7": -0.5}
    assert chat(logit_bias={Whole(5): 1}).logit_bias == {"5": 1}
    assert chat(logit_bias={}).logit_bias == {}
    for wrong in ({"a": 1}, {True: 1}, {1.5: 1}, {None: 1}, {"": 1}, [[5, 1]]):
        assert refusal(chat, logit_bias=wrong).field == "logit_bias"
    for wrong in (math.nan, True, "1", None):
        assert refusal(chat, logit_bias={5: wrong}).field == "logit_bias.5"


def test_tools():
    assert chat(tools=[]).tools == ()
    made = types.SimpleNamespace(model_dump=lambda: {"type": "function"})
    assert chat(tools=iter([made])).tools == ({"type": "function"},)
    assert refusal(chat, tools=["f"]).field == "tools[0]"
    refusal(chat, tools={"type": "function"})
    refusal(chat, tools="f")
    assert chat(tool_choice="any").tool_choice == "any"
    refusal(chat, tool_choice=5)


def test_prompts():
    """
    Horay takes a string; lists go through for servers that take them.
    """
    assert text(prompt="").prompt == ""
    assert text(prompt=["a", "b"]).prompt == ("a", "b")
    assert text(prompt=[1, Whole(2)]).prompt == (1, 2)
    assert text(prompt=[[1, 2], (3,)]).prompt == ([1, 2], [3])
    assert str(refusal(text, prompt=[])) == "prompt: the list is empty"
    assert refusal(text, prompt=["a", 1]).field == "prompt[0]"
    assert refusal(text, prompt=[[1, "a"]]).field == "prompt[0][1]"
    for wrong in (5, b"x", {"a": 1}, [True], [-1], [None], [b"x"]):
        refusal(text, prompt=wrong)


# Whatever can stand in JSON ----------------------------------------------------------


@pytest.mark.parametrize(
    "field", ["response_format", "metadata", "stream_options", "extra_body"]
)
def test_json_objects(field):
    """
    Copied at every depth, as plain values; what JSON cannot hold is named by its path.
    """
    given = {
        "a": [1, 2.5, None, True, "x", (1,), range(2)],
        "b": types.MappingProxyType({"c": Colour.RED, "d": Role.USER}),
        "w": [Whole(3), Real(4), fractions.Fraction(1, 2)],
        Role.USER: Function(name="f"),
    }
    kept = getattr(chat(**{field: given}), field)
    assert kept == {
        "a": [1, 2.5, None, True, "x", [1], [0, 1]],
        "b": {"c": "red", "d": "user"},
        "w": [3, 4.0, 0.5],
        "user": {"name": "f"},
    }
    assert type(kept["b"]["d"]) is str
    for wrong, path, expected in [
        ({"foo": [0, 1, math.nan]}, "foo[2]", "a finite number"),
        ({"foo": {"bar": -math.inf}}, "foo.bar", "a finite number"),
        ({"foo": [Real(math.inf)]}, "foo[0]", "a finite number"),
        ({"foo": [{"x": {1, 2}}]}, "foo[0].x", "something that JSON can hold"),
        ({"foo": b"x"}, "foo", "something that JSON can hold"),
        ({"foo": memoryview(b"x")}, "foo", "something that JSON can hold"),
        ({"foo": dict}, "foo", "something that JSON can hold"),
        ({"foo": {1: 2}}, "foo", "strings for keys"),
    ]:
        error = refusal(chat, **{field: wrong})
        assert error.field == f"{field}.{path}"
        assert str(error).endswith(f"expected {expected}")
    for wrong in ("x", 5, [1], [["a", 1]], dict):
        assert refusal(chat, **{field: wrong}).field == field


def test_finite_everywhere():
    """
    orjson would quietly write null for NaN.
    """
    nan = {"x": [math.nan]}
    for fields, path in [
        ({"tools": [{}, nan]}, "tools[1].x[0]"),
        ({"tool_choice": nan}, "tool_choice.x[0]"),
        (
            {"messages": [{"role": "user", "content": [nan]}]},
            "messages[0].content[0].x",
        ),
        ({"messages": [user([nan])]}, "messages[0].content[0].x"),
        ({"messages": [Message(extra=nan)]}, "messages[0].x"),
        (
            {"messages": [Message(tool_calls=[ToolCall(extra=nan)])]},
            "messages[0].tool_calls[0].x",
        ),
    ]:
        assert refusal(chat, **fields).field.startswith(path)


def test_endless():
    """
    A value that holds itself is an error, not a crash.
    """
    loop = {}
    loop["loop"] = loop
    assert "nested too deeply, or holds itself" in str(refusal(chat, extra_body=loop))


# Messages --------------------------------------------------------------------------


def test_a_bare_string_is_no_conversation():
    error = refusal(chat, messages="Hello")
    assert error.field == "messages"
    assert "pass [user('Hello')]" in str(error)
    assert "got one; pass [message]" in str(refusal(chat, messages=user("Hello")))


@pytest.mark.parametrize("wrong", [None, 5, {"role": "user", "content": "x"}, b"x"])
def test_what_is_no_list(wrong):
    assert "expected a list of messages" in str(refusal(chat, messages=wrong))


def test_no_messages():
    assert str(refusal(chat, messages=[])) == "messages: the list is empty"
    refusal(chat, messages=iter(()))


@pytest.mark.parametrize("wrong", ["Hello", 5, None, ["user", "x"], Message])
def test_what_is_no_message(wrong):
    error = refusal(chat, messages=[user("x"), wrong])
    assert error.field == "messages[1]"
    assert "expected a Message or a mapping with a role" in str(error)


@pytest.mark.parametrize("role", [None, 5, ""])
def test_roles(role):
    for message in ({"role": role, "content": "x"}, Message(role=role, content="x")):
        error = refusal(chat, messages=[message])
        assert error.field == "messages[0].role"
        assert 'expected a role: "user"' in str(error)
    refusal(chat, messages=[{"content": "x"}])
    kept = chat(messages=[{"role": Role.USER, "content": "x"}]).messages
    assert kept == ({"role": "user", "content": "x"},)


@pytest.mark.parametrize("content", [5, {"type": "text"}, True])
def test_contents(content):
    for message in (
        {"role": "user", "content": content},
        Message(role="user", content=content),
    ):
        error = refusal(chat, messages=[message])
        assert error.field == "messages[0].content"
        assert "expected a string, a list of parts (mappings) or None" in str(error)
    for message in ({"role": "user", "content": ["a"]}, user(["a"])):
        assert refusal(chat, messages=[message]).field == "messages[0].content[0]"
    for fine in ("", [], [{"type": "text", "text": "a"}]):
        chat(messages=[{"role": "user", "content": fine}, user(fine)])
    # Only a model says nothing.
    for message in ({"role": "user"}, user(None), {"role": "tool", "content": None}):
        error = refusal(chat, messages=[message])
        assert error.field == "messages[0].content"
        assert "needs content" in str(error)
    chat(messages=[{"role": "assistant", "content": None}])
    chat(messages=[{"role": "assistant", "tool_calls": []}])


def test_messages_of_all_kinds():
    """
    Ours, mappings, and what other libraries make, in one conversation.
    """
    theirs = types.SimpleNamespace(
        model_dump=lambda: {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": None}}],
        }
    )
    openais = types.SimpleNamespace(
        to_dict=lambda: {"role": "assistant", "content": "x"},
        model_dump=lambda: pytest.fail("to_dict leaves out what was not set"),
    )
    odd = types.SimpleNamespace(to_dict=lambda: [1], role="user")
    call = ToolCall(id="1", function=Function(name="f", arguments="{}"))
    request = chat(
        messages=(
            user([{"type": "text", "text": "a"}]),
            theirs,
            openais,
            types.MappingProxyType({"role": "user", "content": "b", "x": None}),
            {"role": "assistant", "content": None, "tool_calls": (call,)},
            Message(tool_calls=[call]),
            Message(tool_calls=({"id": "2"},)),
            tool("42", tool_call_id="1"),
            assistant("c"),
        )
    )
    plain = {
        "id": "1",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
    }
    assert json.loads(pack(request, stream=False))["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": None}}],
        },
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "b", "x": None},
        {"role": "assistant", "content": None, "tool_calls": [plain]},
        {"role": "assistant", "content": None, "tool_calls": [plain]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "2"}]},
        {"role": "tool", "content": "42", "tool_call_id": "1"},
        {"role": "assistant", "content": "c"},
    ]
    assert refusal(chat, messages=[odd]).field == "messages[0]"
    assert refusal(chat, messages=[Message(tool_calls=5)]).field == (
        "messages[0].tool_calls"
    )


# Call options ------------------------------------------------------------------------


def test_headers():
    assert chat(extra_headers={"X-A": "b"}).extra_headers == {"X-A": "b"}
    assert chat(extra_headers=None).extra_headers is None
    for wrong in (
        {"": "x"},
        {5: "x"},
        {"a\r\nb": "x"},
        {"a\0": "x"},
        "x",
        [("a", "b")],
    ):
        assert refusal(chat, extra_headers=wrong).field == "extra_headers"
    for wrong in (5, None, b"x", "a\r\nEvil: 1", "a\n", "a\0"):
        error = refusal(chat, extra_headers={"X-A": wrong})
        assert error.field == "extra_headers.X-A"


def test_header_values_stay_secret():
    for value in ("Bearer sk-secret\n", ["sk-secret"]):
        error = refusal(chat, extra_headers={"Authorization": value})
        assert "sk-secret" not in str(error)


def test_query():
    kept = chat(extra_query={"a": "b", "n": 1, "f": 0.5}).extra_query
    assert kept == {"a": "b", "n": "1", "f": "0.5"}
    for wrong in ({5: "x"}, "a=b", [("a", "b")]):
        assert refusal(chat, extra_query=wrong).field == "extra_query"
    for wrong in (True, None, ["x"], math.nan):
        assert refusal(chat, extra_query={"a": wrong}).field == "extra_query.a"
