"""
Writes docs/faults.md out of the fault table: `python tests/fault_docs.py`.
"""

from pathlib import Path

from fault_table import TABLE, cases_of
from fault_table_ends import TEXT, Outcome
from horay_async.emulator import FAULTS


PAGE = Path(__file__).parents[1] / "docs" / "faults.md"

INTRODUCTION = """\
# The fault table

What can go wrong between a client and a server, what a client that can be trusted does
then, and what this one does. {count}

The tests' own table makes this page (`python tests/fault_docs.py`), and
`pytest tests/test_faults.py` holds the client to it: each fault strikes a real client over
a real socket, as a stream and as a plain call, for chats and for text completions, without
retries and with two. Whichever it is, only `HorayError`s come out; the call ends; what had
arrived is kept; no connection, task or place in a queue stays behind; the key is in no error
and no traceback; nothing is sent to another address; no cookie comes back; and the next
call on the same client gets its own answer.

"Answered at attempt 2" is what happens with the default `max_retries=2`; the error beside
it is what `max_retries=0` gives. An error alone is raised at once, whatever `max_retries`
says: it would come again, or a piece of the stream has been read. Where a clock ends a call, it is the one of [the `Timeouts`](timeouts.md) that is named.

## In your own tests

The faults belong to the emulator (`pip install 'horay-async[emulator]'`) and serve any
client. By script, what the next calls get (None is the normal answer):

```python
from horay_async.emulator import Emulator

async with Emulator() as server:
    server.script("reset-mid-chunk", None)
```

By the request, in a header of its own: `x-emulator-fault: reset-mid-chunk`.

At random, a share of all requests each, from a seed that repeats them:

```python
Emulator(faults={"reset-mid-stream": 0.05, "status-503": 0.1}, seed=1)
```

And from the command line, for a program in any language: `HORAY_LOG=info horay serve --fault
reset-mid-stream=0.05 --fault status-503=0.1 --model my-model` tells on stderr what each request
got. (A model that Horay's document does not name is refused, unless `--model` or
`Emulator(models=[...])` makes it known.) `horay faults` lists all faults.
"""

HEAD = (
    "| fault | the server | a trustworthy client | stream | plain call |\n"
    "| --- | --- | --- | --- | --- |\n"
)


def page():
    """
    The whole page.
    """
    groups = {}
    for fault in FAULTS.values():
        groups.setdefault(fault.group, []).append(fault)
    parts = [INTRODUCTION.replace("{count}", count())]
    for group, members in groups.items():
        lines = "".join(map(line, members))
        parts.append(f"## {group.capitalize()}\n\n{HEAD}{lines}")
    return "\n".join(parts)


def count():
    """
    How many there are.
    """
    cases = sum(
        len(cases_of(name, mode)) for name in TABLE for mode in ("stream", "plain")
    )
    return f"**{len(FAULTS)} faults, {cases} cases, all right.**"


def line(fault):
    """
    One fault's line.
    """
    row = TABLE[fault.name]
    cells = [f"`{fault.name}`", fault.does, fault.right]
    for mode in ("stream", "plain"):
        attempt = "2 or 3" if row.unseen is None else "2"
        cells.append(words(getattr(row, mode), attempt))
    return f"| {' | '.join(map(escaped, cells))} |\n"


def words(end, attempt):
    """
    How a call ends, for people; and at which attempt, if it is tried again.
    """
    if not end.error:
        return answer(end)
    error = f"`{end.error}`"
    if end.clock:
        error += f" (clock `{end.clock}`)"
    if end.again:
        waited = ""
        if end.wait:
            shortest, longest = (f"{seconds:g}" for seconds in end.wait)
            waited = (
                f" after {shortest} to {longest} s" if longest != "0" else " at once"
            )
        return f"answered at attempt {attempt}{waited}; without retries {error}"
    if end.text:
        error += f", {end.pieces} piece{'' if end.pieces == 1 else 's'} kept"
    if end.retry_after is not None:
        error += f", `retry_after={end.retry_after[0]:g}`"
    return error


def answer(end):
    """
    What an answer says.
    """
    said = {TEXT: "", "": ", without text"}.get(end.text, f": {shown(end.text)}")
    if end.outcome is Outcome.UNCONFIRMED:
        return f"the answer, outcome `unconfirmed`{said}"
    return f"whole answer{said}"


def shown(text):
    """
    A text with what cannot be seen spelt out.
    """
    if len(text) > 40:
        return f"{len(text)} characters"
    return f'"{"".join(map(visible, text))}"'


def visible(character):
    """
    A character, or its number.
    """
    return character if character.isprintable() else f"\\u{ord(character):04x}"


def escaped(text):
    """
    As a table's cell wants it.
    """
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
