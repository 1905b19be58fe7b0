"""
A batch's input: which line each row was.
"""

import pytest

from horay_async.cli._source import Numbers


@pytest.mark.parametrize(
    "lines", [[1, 2, 3], [2, 3, 7, 8, 9, 20], [1, 3, 5, 7], [10_000_000_000]]
)
def test_numbers(lines):
    """
    A row's line is found again, whatever blank lines there are.
    """
    numbers = Numbers()
    for row, line in enumerate(lines):
        numbers.note(row, line)
        assert numbers.line(row) == line
    assert [numbers.line(row) for row in range(len(lines))] == lines


def test_numbers_are_few():
    """
    A hundred thousand rows take no more room than one.
    """
    numbers = Numbers()
    for row in range(100_000):
        numbers.note(row, row + 1)
    assert len(numbers._rows) == 1
