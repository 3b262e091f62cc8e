"""One archive, whatever made it: the environments of portability.sh, run and compared.

    python benchmarks/portability.py FOLDER [ENVIRONMENT ...]    writes results/portability.json

The first environment says what the archives are; every other one must give the same bytes,
and give the files back from them.  A row of an earlier run stays if it was not asked for
again and the archives are still the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgolf_codec.cli.demo import python_topics
from pgolf_codec.codec.machine import SETS, instruction_set

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "portability.json"
LIMIT_S = 3600.0
"""For one command."""
SHORT = ("mixed.txt", "random.bin")
"""For environments that are slow."""
PLAIN = ", plain"
"""Behind the name of a file that was compressed without adaptation."""
LINES = (
    "The quick brown fox jumps over the lazy dog; then it sleeps.",
    "Füchse fressen Ärger, naïve Gäste zahlen 12,50 € – «peut-être», dit l'élève.",
    "Быстрая лиса прыгает через ленивую собаку. η αλεπού πηδά. שועל חום מהיר",
    "素早い茶色の狐がのろまな犬を飛び越える。敏捷的棕色狐狸。다람쥐 헌 쳇바퀴에 타고파",
    "कुत्ता आलसी है — e\u0301 ﬁ 👩\u200d🔬🏳️\u200d🌈\tÅ\u00a0\ufeff∑ᵢ aᵢ≤√2",
)


@dataclass(frozen=True, slots=True)
class Environment:
    """One way to run the command line."""

    name: str
    command: tuple[str, ...] = (sys.executable,)
    variables: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    device: str = "cpu"
    files: tuple[str, ...] = ("english.txt", *SHORT)
    machine_code: str = ""
    """Where it is kept: environments that differ in threads or device share it."""
    lacks: str | None = None
    """Why it can't run here."""


class FailedError(Exception):
    """A command did not do what it should; the text says what."""


def environments(work: Path) -> Iterator[Environment]:
    """The first is what the others are compared with."""
    best, x86 = instruction_set(), platform.machine() == "x86_64"
    for name in reversed(SETS):
        here = SETS.index(name) <= SETS.index(best)
        yield Environment(
            name=name,
            variables={"PGOLF_CODEC_ISA": name},
            lacks=None if here else f"the best set of this machine is {best}",
        )
    for name in ("haswell", "generic"):
        yield Environment(
            name=f"LLVM's {name}",
            variables={"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""},
            lacks=None if x86 else "a name of x86 processors",
        )
    for threads in (2, 4):
        yield Environment(f"{threads} threads", threads=threads, machine_code=best)
    torch = importlib.util.find_spec("torch") is not None
    for threads in (1, 2):
        yield Environment(
            name=f"torch, {threads} thread{'s' * (threads > 1)}",
            threads=threads,
            device="torch-cpu",
            machine_code=best,
            lacks=None if torch else "torch is not installed",
        )
    yield _fetched_python(work / "python-3.13")
    yield _qemu(work / "aarch64")


def _fetched_python(folder: Path) -> Environment:
    """Debian's Python and C library beside our own, without a chroot."""
    usr = folder / "root" / "usr"
    loader = usr / "lib64" / "ld-linux-x86-64.so.2"
    libraries = usr / "lib" / "x86_64-linux-gnu"
    return Environment(
        name="Python 3.13",
        command=(f"{loader}", "--library-path", f"{libraries}", f"{usr / 'bin' / 'python3'}"),
        variables={"PYTHONHOME": f"{usr}", "PYTHONPATH": f"{folder / 'packages'}"},
        lacks=None if (folder / "complete").exists() else "it could not be fetched",
    )


def _qemu(folder: Path) -> Environment:
    """Debian's Python for aarch64, every instruction of it emulated."""
    usr = folder / "root" / "usr"
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    lacks = None if qemu else "no qemu-aarch64: apt-get install qemu-user-static"
    if not (folder / "complete").exists():
        lacks = "its Python could not be fetched"
    return Environment(
        name="aarch64 in qemu",
        command=(qemu or "", "-L", f"{folder / 'root'}", f"{usr / 'bin' / 'python3'}"),
        variables={"PYTHONHOME": f"{usr}", "PYTHONPATH": f"{folder / 'packages'}"},
        files=SHORT,
        lacks=lacks,
    )


def main(arguments: list[str]) -> int:
    work, wanted = Path(arguments[0]).absolute(), arguments[1:]
    known = {environment.name: environment for environment in environments(work)}
    if unknown := set(wanted) - set(known):
        raise SystemExit(
            f"portability: {', '.join(sorted(unknown))}: no environment's name; "
            f"known are {', '.join(known)}"
        )
    shutil.rmtree(work / "source", ignore_errors=True)  # one version, whoever edits meanwhile
    shutil.copytree(ROOT / "pgolf_codec", work / "source" / "pgolf_codec")
    texts = write_texts(work / "texts")

    first = next(environment for environment in known.values() if environment.lacks is None)
    row = run(first, work, texts)
    if row["outcome"] == "failed":
        raise SystemExit(f"portability: {first.name}: {row['why']}")
    reference = row["archives"]
    rows = {name: blank(environment) for name, environment in known.items()}
    rows |= earlier_rows(known, reference) | {first.name: row | {"outcome": "same"}}
    for name in wanted or known:
        if name != first.name:
            row = rows[name] = run(known[name], work, texts)
            if row["outcome"] == "ran":
                row["outcome"] = judge(row["archives"], reference)
        print(f"portability: {name}: {rows[name]['outcome']} {rows[name]['why'] or ''}", flush=True)
        store(texts, reference, list(rows.values()))
    bad = [name for name, row in rows.items() if row["outcome"] in ("differs", "failed")]
    for name in bad:
        print(f"portability: {name}: {rows[name]['outcome']}", file=sys.stderr)
    return int(bool(bad))


def write_texts(folder: Path) -> dict[str, bytes]:
    """Real prose, many scripts, and what no model can predict."""
    mixed = [LINES[(i * i + i // 7) % len(LINES)] + f" {i}\n" for i in range(110)]
    texts = {
        "english.txt": python_topics(30_000),
        "mixed.txt": "".join(mixed).encode(),
        "random.bin": random.Random(1).randbytes(5_000),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    return texts


def blank(environment: Environment) -> dict[str, Any]:
    """The row of an environment that was not run."""
    return {
        "name": environment.name,
        "threads": environment.threads,
        "device": environment.device,
        "outcome": "not run",
        "why": None,
        "python": None,
        "machine": None,
        "seconds": None,
        "archives": {},
    }


def run(environment: Environment, work: Path, texts: dict[str, bytes]) -> dict[str, Any]:
    """A row of the result; its outcome is ``ran``, ``failed`` or ``skipped``."""
    row = blank(environment)
    if environment.lacks is not None:
        return row | {"outcome": "skipped", "why": environment.lacks}
    start = time.perf_counter()
    try:
        asked_for = "import platform as p; print(p.python_version(), p.machine())"
        row["python"], row["machine"] = command(environment, work, "-c", asked_for).split()
        row["archives"] = both_ways(environment, work, texts)
        row["outcome"] = "ran"
    except FailedError as error:
        row["outcome"], row["why"] = "failed", str(error)
    row["seconds"] = round(time.perf_counter() - start, 1)
    return row


def both_ways(environment: Environment, work: Path, texts: dict[str, bytes]) -> dict[str, str]:
    """SHA-256 of the archives by the name of their file; each is decoded again."""
    folder = work / "outputs" / environment.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    paths = [folder / name for name in environment.files]
    for path in paths:
        path.write_bytes(texts[path.name])
    options = ("-q", "-f", "-T", str(environment.threads), "--device", environment.device)
    digests = {}
    # Only the processor adapts; everything makes archives without.
    for kind in ("", PLAIN) if environment.device == "cpu" else (PLAIN,):
        compress = ("compress", "--no-adapt") if kind else ("compress",)
        module = ("-m", "pgolf_codec")
        command(environment, work, *module, *compress, *options, *(f"{path}" for path in paths))
        archives = [path.with_name(f"{path.name}.pgz") for path in paths]
        for path in paths:
            path.unlink()
        command(environment, work, *module, "decompress", *options, *map(str, archives))
        for path, archive in zip(paths, archives, strict=True):
            if path.read_bytes() != texts[path.name]:
                raise FailedError(f"{path.name} does not come back")
            digests[path.name + kind] = hashlib.sha256(archive.read_bytes()).hexdigest()
    return digests


def command(environment: Environment, work: Path, *arguments: str) -> str:
    """Standard output of Python with these arguments."""
    kept = work / "machine-code" / (environment.machine_code or environment.name)
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PGOLF", "NUMBA"))}
    variables |= {"PGOLF_CODEC_CACHE": str(kept), "PYTHONDONTWRITEBYTECODE": "1"}
    variables |= environment.variables
    paths = (str(work / "source"), environment.variables.get("PYTHONPATH", ""))
    variables["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    try:
        done = subprocess.run(
            [*environment.command, *arguments],
            env=variables,
            cwd=work,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FailedError(f"not done after {LIMIT_S:.0f} s") from None
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:]
        raise FailedError(f"exit status {done.returncode}: {' '.join(last)}")
    return done.stdout


def judge(archives: dict[str, str], reference: dict[str, str]) -> str:
    """``same`` or ``differs``, on the files that the environment coded."""
    return (
        "same" if all(reference[name] == digest for name, digest in archives.items()) else "differs"
    )


def earlier_rows(known: Collection[str], reference: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Of the stored result, if it is about the same archives."""
    if not RESULT.exists():
        return {}
    stored = json.loads(RESULT.read_bytes())
    archives = {row["name"]: row["archive_sha256"] for row in stored["files"]}
    if archives != reference:
        return {}
    rows = {row["name"]: row for row in stored["environments"]}
    return {name: row for name, row in rows.items() if name in known and row["outcome"] == "same"}


def store(texts: dict[str, bytes], reference: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """Write what is known so far: a run may take an hour, and be ended."""
    files = [
        {
            "name": name + kind,
            "n_bytes": len(text),
            "sha256": hashlib.sha256(text).hexdigest(),
            "archive_sha256": reference[name + kind],
        }
        for kind in ("", PLAIN)
        for name, text in texts.items()
    ]
    RESULT.write_text(
        json.dumps({"files": files, "environments": rows}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
