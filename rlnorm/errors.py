"""Errors that a user can fix: bad input, reported before anything starts, each in one line."""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_NOT_OF_USER = ("rlnorm.", "importlib.", "_frozen_importlib", "contextlib.")


class InputError(ValueError):
    """A file, row, key or option is not usable; one line: where, what it got, what is allowed.

    Line breaks and other characters that no terminal shows are written as escapes: the message may
    quote any text of a file.
    """

    def __init__(self, message: object) -> None:
        shown = (c if c.isprintable() else repr(c)[1:-1] for c in str(message))
        super().__init__("".join(shown))


def one_line(error: BaseException) -> str:
    """Type and message of an error without line breaks."""
    try:
        text = str(error)
    except Exception as second:  # the text of an error is a user's code too
        text = f"its message cannot be read: {type(second).__name__}"
    return ": ".join(filter(None, (type(error).__name__, " ".join(text.split()))))


def with_place(error: BaseException) -> str:
    """The error in one line, with the line that raised it and the user's line that led there."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    frames = _frames_of_user(error) or list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return one_line(error)
    places = [f"{frame.f_code.co_filename}, line {line}" for frame, line in frames]
    led_there = f", called from {places[0]}" if places[0] != places[-1] else ""
    return f"{one_line(error)} ({places[-1]}{led_there})"


@contextmanager
def without_exit() -> Iterator[None]:
    """While it lasts, os._exit raises in this process: it would end a run without a word."""
    real, here = os._exit, os.getpid()

    def refuse(status: int) -> NoReturn:
        if os.getpid() != here:  # a child that was forked meanwhile
            real(status)
        raise RuntimeError(f"it calls os._exit({status}), which would end the run")

    os._exit = refuse
    try:
        yield
    finally:
        os._exit = real


@contextmanager
def code_of_user(where: str) -> Iterator[None]:
    """Run a user's code: an error in it becomes an InputError of one line with its place."""
    try:
        with without_exit():
            yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{where}: {of_check(error)}") from error


def of_check(error: BaseException) -> str:
    """The message of a ValueError that our own code raised; any other error with its place."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = frames and str(frames[-1].f_globals.get("__name__")).startswith("rlnorm.")
    return str(error) if ours and isinstance(error, ValueError) else with_place(error)


def _frames_of_user(error: BaseException) -> list[tuple[FrameType, int]]:
    """Frames that are neither ours nor the import system's, the outermost first."""
    return [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not f"{frame.f_globals.get('__name__')}.".startswith(_NOT_OF_USER)
    ]
