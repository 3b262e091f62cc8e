"""What only a process of its own shows: pipes, terminals, signals, full disks."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def test_pipes(run: Run, text: bytes, tmp_path: Path) -> None:
    packed = run("compress", stdin=text)
    assert (packed.returncode, packed.stderr) == (0, b"")
    unpacked = run("decompress", "-", stdin=packed.stdout)
    assert (unpacked.returncode, unpacked.stdout, unpacked.stderr) == (0, text, b"")
    assert run("compress", "-", "-o", "out", stdin=text).returncode == 0
    assert (tmp_path / "out").read_bytes() == packed.stdout
    assert run("decompress", "-c", "out").stdout == text


def test_fifo(run: Run, text: bytes, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = subprocess.Popen([sys.executable, "-c", f"open({str(fifo)!r}, 'wb').write({text!r})"])
    packed = run("compress", "-c", fifo)
    assert writer.wait() == 0
    assert packed.returncode == 0
    assert run("decompress", stdin=packed.stdout).stdout == text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_disk(run: Run, command: list[str], source: Path) -> None:
    done = run("compress", source, "-o", "/dev/full")
    assert done.returncode == 1
    assert done.stderr == b"pgolf-codec: /dev/full: no space left on device\n"
    with open("/dev/full", "wb") as full:
        redirected = subprocess.run(
            [*command, "compress", "-c", str(source)],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert redirected.returncode == 1
    assert redirected.stderr == b"pgolf-codec: (stdout): no space left on device\n"


def test_terminal_is_refused(command: list[str], source: Path, text: bytes) -> None:
    ours, theirs = pty.openpty()
    try:
        refused = subprocess.run(
            [*command, "compress", "-c", str(source)],
            stdout=theirs,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert refused.returncode == 1
        assert refused.stderr.startswith(b"pgolf-codec: (stdout): is a terminal")
        forced = subprocess.run(
            [*command, "compress", "-cf", str(source)], stdout=theirs, check=False
        )
        assert forced.returncode == 0
        assert b"pgz" in os.read(ours, 4)
        typed = subprocess.run(
            [*command, "decompress"], stdin=theirs, capture_output=True, check=False
        )
        assert typed.returncode == 1
        assert typed.stderr.startswith(b"pgolf-codec: (stdin): is a terminal")
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_no_file(command: list[str], tmp_path: Path, number: signal.Signals) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"old")
    if signal.getsignal(number) is signal.SIG_IGN:  # under nohup; a child would inherit it
        signal.signal(number, signal.SIG_DFL)
    process = subprocess.Popen(
        [*command, "compress", "-f", "-", "-o", "old"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b"some text, and more is to come")
    process.stdin.flush()
    give_up = time.monotonic() + 60
    while len(os.listdir(tmp_path)) == 1:  # until it has begun to write
        assert time.monotonic() < give_up
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said == b""
    assert os.listdir(tmp_path) == ["old"]
    assert old.read_bytes() == b"old"


def test_reader_that_goes_away(run: Run, command: list[str], tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"spam, spam, " * 100_000)
    assert run("compress", "long").returncode == 0
    process = subprocess.Popen(
        [*command, "decompress", "-c", "long.pgz"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        assert process.stdout.read(4) == b"spam"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.wait() == 128 + signal.SIGPIPE


def test_list_needs_no_model(run: Run, source: Path) -> None:
    assert run("compress", source).returncode == 0
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pgolf_codec", "list", f"{source}.pgz"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "text.pgz" in done.stdout
    assert "numba" not in done.stderr
