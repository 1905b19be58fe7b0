"""
The answers as a table: made from a finished journal, a row for each of its lines.

The journal is what a batch writes as it goes; a CSV or Parquet file is made of it at the end,
a few thousand rows at a time, and moved into place when it is whole.
"""

import contextlib
import json
import os
import stat

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from ._failures import Misuse, reason
from ._tables import import_arrow
from ._writer import CannotWrite


# Rows, and characters of text, that are held before they are written.
_ROWS, _TEXT = 5000, 16 << 20

# What a column of whole numbers holds.
_LARGEST = (1 << 63) - 1


def is_table_output(output: str) -> bool:
    """
    Whether the answers are to become a table, by the file's name.
    """
    return output.lower().endswith((".csv", ".parquet"))


def journal_of(output: str) -> str:
    """
    The journal of a batch with this output: the output itself, if it is no table.
    """
    return f"{output}.jsonl" if is_table_output(output) else output


def check_table_output(output: str, *, overwrite: bool) -> None:
    """
    Refuse what could not be written, or is not ours to replace. This blocks.

    Raises:
        Misuse: pyarrow is missing, or the place, or somebody else's data is there.
    """
    import_arrow()
    path = Path(output)
    if not path.parent.is_dir():
        raise Misuse(f"cannot write {output}: there is no folder {path.parent}")
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise Misuse(f"cannot write {output}: {reason(error)}") from None
    if not stat.S_ISREG(status.st_mode):
        raise Misuse(f"cannot write {output}: it is no regular file")
    if not (overwrite or Path(journal_of(output)).exists()):
        raise Misuse(
            f"{output} is there already, and was not made of a journal"
            f" {journal_of(output)}: --overwrite replaces it"
        )


def write_table(journal: str, output: str) -> int:
    """
    Make the table of a journal that has one line for each row; how many there were. This
    blocks.

    Lines that nobody can read are left out.

    Raises:
        CannotWrite: The table cannot be written, or the journal not be read. What was there
            before is as it was.
    """
    arrow = import_arrow()
    place = os.path.realpath(output)
    # Of a name that nobody else gives: one that a crash has left is ours to replace.
    begun = f"{place}.horay-tmp"
    packed = output.lower().endswith(".csv")
    schema = _schema(arrow, packed=packed)
    kind = arrow.csv.CSVWriter if packed else arrow.parquet.ParquetWriter
    written = 0
    try:
        with contextlib.ExitStack() as stack:
            lines = stack.enter_context(Path(journal).open("rb"))
            _remove(begun)
            # Taken away again, unless it was moved.
            stack.callback(_remove, begun)
            file = stack.enter_context(Path(begun).open("xb"))
            with kind(file, schema) as table:
                for rows in _batches(lines, packed=packed):
                    table.write_table(arrow.Table.from_pylist(rows, schema))
                    written += len(rows)
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError):
                os.chmod(begun, stat.S_IMODE(os.stat(place).st_mode))  # noqa: PTH101, PTH116 -- strings both
            file.close()
            os.replace(begun, place)  # noqa: PTH105 -- strings both
    except (OSError, arrow.ArrowException) as error:
        problem = reason(error) if isinstance(error, OSError) else error
        raise CannotWrite(
            f"cannot write {output}: {problem}; the answers are all in {journal}"
        ) from None
    return written


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.remove(path)  # noqa: PTH107 -- a string


def _schema(arrow: Any, *, packed: bool) -> Any:
    """
    Always the same columns of the same types, though some be empty throughout. CSV has no
    lists: they are packed as JSON.
    """
    text, number = arrow.string(), arrow.int64()
    texts = text if packed else arrow.list_(text)
    names = {
        "custom_id": text,
        "text": text,
        "finish_reason": text,
        "error": text,
        "model": text,
        "prompt_tokens": number,
        "completion_tokens": number,
        "attempts": number,
        "seconds": arrow.float64(),
        "turns": texts,
        "choices": texts,
    }
    return arrow.schema(names.items())


# Lines to rows -----------------------------------------------------------------------


def _batches(lines: Iterator[bytes], *, packed: bool) -> Iterator[list[dict[str, Any]]]:
    """
    Lists of rows, none of them empty.
    """
    rows: list[dict[str, Any]] = []
    size = 0
    for line in lines:
        if (row := _row(line)) is None:
            continue
        if packed:
            for name in ("turns", "choices"):
                if row[name] is not None:
                    row[name] = json.dumps(row[name], ensure_ascii=False)
        rows.append(row)
        size += len(line)
        if len(rows) == _ROWS or size > _TEXT:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _row(line: bytes) -> dict[str, Any] | None:
    """
    What a result line says; None of what is none.
    """
    data = _load(line)
    if not isinstance(data.get("custom_id"), str):
        return None
    ours, error = _object(data.get("horay")), data.get("error")
    answers = [_object(body) for body in _list(data.get("turns"))]
    turns = [_first(_texts(answer)) for answer in answers] if "turns" in data else None
    if error is None:
        answers = answers or [_object(_object(data.get("response")).get("body"))]
        texts = _texts(answers[-1])
    else:
        partial = ours.get("partial")
        texts = [_text(one) for one in _list(partial) or [partial]]
    last = answers[-1] if answers else {}
    # Of answers whose tokens the server did not count the line has an estimate.
    counted = [*answers, {"usage": ours.get("estimate")}]
    reasons = [_object(one).get("finish_reason") for one in _list(last.get("choices"))]
    return {
        "custom_id": _text(data["custom_id"]),
        "text": _first(texts),
        "finish_reason": _text(_first(reasons)) if error is None else None,
        "error": None if error is None else _said(_object(error)),
        "model": _text(last.get("model")),
        "prompt_tokens": _sum(counted, "prompt_tokens"),
        "completion_tokens": _sum(counted, "completion_tokens"),
        "attempts": _number(ours.get("attempts")),
        "seconds": _seconds(ours.get("seconds")),
        "turns": turns,
        "choices": texts if len(texts) > 1 else None,
    }


def _load(line: bytes) -> dict[str, Any]:
    """
    A line's object; empty where it holds none.
    """
    try:
        try:
            return _object(orjson.loads(line))
        except orjson.JSONDecodeError:
            # It refuses half a surrogate pair, which servers send.
            return _object(json.loads(line))
    except (ValueError, RecursionError):
        return {}


def _texts(answer: Mapping[str, Any]) -> list[str | None]:
    return [_said_in(_object(choice)) for choice in _list(answer.get("choices"))]


def _said_in(choice: Mapping[str, Any]) -> str | None:
    """
    The text of one choice, of a chat or of a continued text.
    """
    content = _object(choice.get("message")).get("content", choice.get("text"))
    if isinstance(content, list):
        content = "".join(str(_object(part).get("text") or "") for part in content)
    return _text(content)


def _said(error: Mapping[str, Any]) -> str:
    return _text(error.get("message")) or _text(error.get("code")) or "error"


# Other tools write such lines as well: nothing is sure to be what it should.


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(values: list[Any]) -> Any:
    return values[0] if values else None


def _text(value: Any) -> str | None:
    """
    Text that UTF-8 can hold: half a surrogate pair becomes a question mark.
    """
    if not isinstance(value, str):
        return None
    return value.encode("utf-8", "replace").decode()


def _number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _LARGEST else None


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def _sum(answers: list[dict[str, Any]], name: str) -> int | None:
    """
    Over all turns; None where nobody counted.
    """
    counts = [_number(_object(answer.get("usage")).get(name)) for answer in answers]
    counted = [count for count in counts if count is not None]
    return _number(sum(counted)) if counted else None
