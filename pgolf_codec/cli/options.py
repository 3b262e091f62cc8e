"""Options that several verbs have, and the numbers among their values."""

from __future__ import annotations

import argparse


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--model", help="an embedded model's name, or a .pglm file")


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-T", "--threads", type=threads, metavar="N", help="0, the default: as many as CPUs"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", metavar="D", help="cpu (the default), cuda, cuda:1 ...: the bytes of --no-adapt"
    )


def add_adapt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--adapt",
        action=argparse.BooleanOptionalAction,
        help="learn from the text: smaller, slower (default: yes, but not on a --device)",
    )


def add_talk(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, no warnings")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell sizes and speed")


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", metavar="FILE", help="write here (`-`: standard output)")
    parser.add_argument("-c", "--stdout", action="store_true", help="write to standard output")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite; write to a terminal")
    parser.add_argument(
        "-k", "--keep", dest="remove", action="store_false", help="keep the source (the default)"
    )
    parser.add_argument(
        "--rm", dest="remove", action="store_true", help="remove the source afterwards"
    )
    parser.set_defaults(remove=False)


def threads(text: str) -> int | None:
    """0 is None, which is as many as there are CPUs."""
    return _at_least(text, 0) or None


def positive(text: str) -> int:
    return _at_least(text, 1)


def measure(text: str) -> float:
    """A finite number from 0 up."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return value


def _at_least(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} up")
    return int(text)
