"""
Journals: rows that are answered, and what a file holds.
"""

import contextlib
import json
import threading

from horay_async._replies import ChatChoice, ChatReply
from horay_async._values import Message, Meta
from horay_async.many import _compaction
from horay_async.many._index import Claim, Index
from horay_async.many._journal import Journal
from horay_async.many._journal_file import JournalFile
from horay_async.many._results import result_line
from horay_async.many._rows import Row


def threads():
    """
    Those of journals that are open.
    """
    return [one for one in threading.enumerate() if one.name == "horay-journal"]


def digest(said):
    """
    As of a request that says this.
    """
    return str(said).encode().ljust(8)[:8]


def row(index, text, *, name=None, **fields):
    """
    A row that is answered, or, with an *error*, not.
    """
    if "error" not in fields:
        choice = ChatChoice(message=Message(content=text), finish_reason="stop")
        fields["replies"] = [ChatReply(choices=[choice], meta=Meta(status=200))]
    name = str(index) if name is None else name
    return Row(id=name, index=index, request="a", **fields)


def line(index, text, *, name=None, nth=0, said="a", **fields):
    """
    Its line, as answer to a request that said so.
    """
    claim = Claim(index, nth, digest(said), "new", 0)
    return result_line(row(index, text, name=name, **fields), claim=claim)


async def answer(journal, index, text="fine", *, name=None, said="a", **fields):
    """
    What a job does with a row; its claim.
    """
    name = str(index) if name is None else name
    claim = journal.claim(index, name, digest(said))
    if not claim.skip:
        one = row(index, text, name=name, **fields)
        await journal.write(claim, result_line(one, claim=claim))
    return claim


@contextlib.asynccontextmanager
async def opened(path, **options):
    """
    A journal that is let go in the end.
    """
    journal = await Journal.open(path, **options)
    try:
        yield journal
    finally:
        await journal.aclose()


def texts(path):
    """
    Id and answer of each line; of one that cannot be read, itself.
    """
    found = []
    for one in path.read_bytes().splitlines():
        try:
            data = json.loads(one)
            body = data["response"]["body"]
            found.append((data["custom_id"], body["choices"][0]["message"]["content"]))
        except (ValueError, KeyError, TypeError):
            found.append(one)
    return found


# The file alone ----------------------------------------------------------------------


def brief(number):
    """
    As short a line as there can be.
    """
    name, said = b"%d" % number, digest("a").hex().encode()
    return (
        b'{"id":"batch_req_0","custom_id":"' + name + b'","response":{},"error":null,'
        b'"horay":{"hash":"' + said + b'"}}\n'
    )


LINES = [brief(number) for number in range(3)]
WHOLE = b"".join(LINES)


def never():
    return False


def read(path):
    """
    Open, take up and close; the index and the counts.
    """
    index = Index()
    file = JournalFile(str(path))
    try:
        return index, file.read(index, never)
    finally:
        file.close()


def compact(path, rows, order="done", gone=never):
    """
    Open, claim rows and write those that are needed, compact and close.
    """
    index = Index()
    file = JournalFile(str(path))
    try:
        file.read(index, never)
        for number, (name, said, text) in enumerate(rows):
            claim = index.claim(number, name, digest(said), retry_failed=False)
            if not claim.skip:
                [where], _ = file.append(
                    [line(number, text, name=name, nth=claim.nth, said=said)]
                )
                index.written(claim, where)
        _compaction.compact(file, index, order, gone)
    finally:
        file.close()
