"""An error of the input is one line that any terminal can print, whatever it quotes."""

import pickle

import pytest

from rlnorm.errors import InputError, one_line


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("rows.jsonl row 2: answer", "rows.jsonl row 2: answer"),
        ("a\nb\r\n", r"a\nb\r\n"),
        ("a\u2028b\x85", r"a\u2028b\x85"),
        ("half \ud83d", r"half \ud83d"),
        ("\x1b[31mred\0", r"\x1b[31mred\x00"),
        ("\u00fcber \u4e07", "\u00fcber \u4e07"),
    ],
)
def test_a_message_is_one_line_that_can_be_printed(message, shown):
    error = InputError(message)
    assert str(error) == shown
    str(error).encode()
    assert str(pickle.loads(pickle.dumps(error))) == shown
    assert str(InputError(error)) == shown


def test_an_error_whose_own_text_fails_is_still_one_line():
    class Odd(Exception):
        def __str__(self):
            raise ValueError("no text")

    assert one_line(Odd()) == "Odd: its message cannot be read: ValueError"
