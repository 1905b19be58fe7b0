"""
The page about the faults, which is made of the table that the tests run.
"""

from fault_docs import PAGE, page


def test_the_page_is_current():
    """
    It says what the table says; else `python tests/fault_docs.py` writes it anew.
    """
    assert PAGE.read_text(encoding="utf-8") == page()
