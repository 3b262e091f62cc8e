"""The folder of a submission: what is written, and every reason to refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgolf_codec.cli import main
from pgolf_codec.errors import RefusedError, SubmissionError
from pgolf_codec.eval.significance import compare_logs
from pgolf_codec.eval.submission import (
    Details,
    Run,
    Submission,
    make_submission,
    read_run,
    write_submission,
)

if TYPE_CHECKING:
    from conftest import Golf

RECORDS = Path(__file__).parents[3] / "shared" / "records"
KEYS = {
    "author", "github_id", "name", "blurb", "date", "track", "val_loss", "val_bpb", "val_bpb_std",
    "bytes_total", "bytes_code", "seeds", "seed_results", "hardware", "pytorch_version",
}  # fmt: skip
PROGRAM = b"#" * 1000


def details(**changes: Any) -> Details:
    values: dict[str, Any] = {
        "name": "A name",
        "author": "Someone",
        "github_id": "someone",
        "blurb": "What is new.",
        "date": "2026-11-22",
        "track": "non-record",
    }
    return Details(**{**values, **changes})


def log(
    path: Path,
    seed: int,
    loss: float = 1.9,
    model: int = 15_000_000,
    code: int = 1000,
    ms: int = 600_030,
    world: int = 8,
) -> Path:
    path.write_text(
        f"world_size:{world}\nseed:{seed}\n"
        f"step:7000/9000 val_loss:2.0 val_bpb:1.2 train_time:{ms}ms step_avg:83.00ms\n"
        f"Serialized model int6: {model} bytes\nCode size: {code} bytes\n"
        f"final_exact val_loss:{loss:.8f} val_bpb:{loss / 1.69:.8f}\n"
    )
    return path


def runs(
    folder: Path, losses: tuple[float, ...] = (1.9, 1.9005, 1.8995), **facts: int
) -> list[Run]:
    return [
        read_run(log(folder / f"run{seed}.log", seed, loss, **facts))
        for seed, loss in enumerate(losses, 41)
    ]


def record(folder: Path, **facts: int) -> Submission:
    ours = runs(folder, **facts)
    (folder / "old").mkdir(exist_ok=True)
    standing = runs(folder / "old", (1.91, 1.9101, 1.9102))
    verdict = compare_logs([run.log for run in ours], [run.log for run in standing])
    return make_submission(ours, PROGRAM, details(track="record"), verdict)


def test_the_folder(tmp_path: Path) -> None:
    submission = record(tmp_path)
    write_submission(submission, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "submission.json",
        "train_gpt.py",
        "train_seed41.log",
        "train_seed42.log",
        "train_seed43.log",
    ]
    values = json.loads((tmp_path / "out" / "submission.json").read_text())
    assert set(values) >= KEYS
    assert values["val_loss"] == pytest.approx(1.9)
    assert values["val_bpb_std"] == pytest.approx(0.0005 / 1.69, rel=1e-4)
    assert (values["bytes_code"], values["bytes_total"]) == (1000, 15_001_000)
    assert values["seeds"] == [41, 42, 43]
    assert values["seed_results"]["42"]["val_loss"] == 1.9005
    assert values["track"] == "track_10min_16mb"
    assert values["significance"]["significant"] is True
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "| 42 | 7,000 | 600.0 | 1.900500 | 1.124556 | 15,000,000 | 15,001,000 |" in readme
    assert "998,999" not in readme
    assert "999,000 are left" in readme
    assert "better by 0.005 nats at p < 0.01" in readme
    with pytest.raises(RefusedError, match="already exists"):
        write_submission(submission, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.parametrize("seed", [9, 99])
@pytest.mark.parametrize(
    ("n_model", "over"), [(15_999_000, 0), (15_999_001, 1), (16_500_000, 501_000)]
)
def test_the_limit_is_exact(tmp_path: Path, n_model: int, over: int, seed: int) -> None:
    """Of the largest artifact, whichever seed's it is."""
    ours = [*runs(tmp_path), read_run(log(tmp_path / "last.log", seed, model=n_model))]
    if over:
        with pytest.raises(SubmissionError, match=f"^{over} bytes too many: code 1000"):
            make_submission(ours, PROGRAM, details(), None)
    else:
        assert make_submission(ours, PROGRAM, details(), None).bytes_total == 16_000_000


def test_another_program(tmp_path: Path) -> None:
    ours = runs(tmp_path)
    with pytest.raises(
        SubmissionError, match=r"run41\.log: a program of 1000 bytes ran, not of 1001"
    ):
        make_submission(ours, PROGRAM + b"#", details(), None)
    path = log(tmp_path / "run1.log", 1)
    path.write_text(path.read_text() + f"code_sha256:{'0' * 64}\n")
    with pytest.raises(SubmissionError, match=r"run1\.log: another program ran"):
        make_submission([read_run(path)], PROGRAM, details(), None)


def test_seeds(tmp_path: Path) -> None:
    ours = runs(tmp_path)
    with pytest.raises(SubmissionError, match="one is there twice"):
        make_submission([*ours, ours[0]], PROGRAM, details(), None)
    with pytest.raises(SubmissionError, match="there are no runs"):
        make_submission([], PROGRAM, details(), None)
    path = log(tmp_path / "nameless.log", 1)
    path.write_text(path.read_text().replace("seed:1\n", ""))
    with pytest.raises(SubmissionError, match="says the seed"):
        read_run(path)
    one = make_submission(ours[:1], PROGRAM, details(), None)
    assert one.to_dict()["val_bpb_std"] is None


def test_artifacts_are_weighed(tmp_path: Path) -> None:
    log(tmp_path / "log.txt", 1, model=500)
    assert read_run(tmp_path).weighed is False
    (tmp_path / "model.pglm").write_bytes(bytes(500))
    assert read_run(tmp_path).weighed is True
    (tmp_path / "model.pglm").write_bytes(bytes(501))
    with pytest.raises(SubmissionError, match="501 bytes, its log states 500"):
        read_run(tmp_path)
    path = log(tmp_path / "train_seed5.log", 5)
    path.write_text(path.read_text().replace("Serialized", "Serialised"))
    with pytest.raises(SubmissionError, match="states no size"):
        read_run(path)
    with pytest.raises(SubmissionError, match=r"none of log\.txt"):
        (tmp_path / "empty").mkdir()
        read_run(tmp_path / "empty")


@pytest.mark.parametrize(
    ("facts", "why"), [({"ms": 601_001}, "601.0 s of training"), ({"world": 4}, "4 ranks, not 8")]
)
def test_the_rules_of_records(tmp_path: Path, facts: dict[str, int], why: str) -> None:
    with pytest.raises(SubmissionError, match=why):
        record(tmp_path, **facts)
    assert make_submission(runs(tmp_path, **facts), PROGRAM, details(), None).details.track


def test_a_record_is_better_than_the_standing_score(tmp_path: Path) -> None:
    ours = runs(tmp_path)
    logs = [run.log for run in ours]
    with pytest.raises(SubmissionError, match="compared with the standing score"):
        make_submission(ours, PROGRAM, details(track="record"), None)
    with pytest.raises(SubmissionError, match=r"NOT better by 0\.005 nats"):
        make_submission(ours, PROGRAM, details(track="record"), compare_logs(logs, logs))
    with pytest.raises(SubmissionError, match="8xH100, not on 8x A100"):
        hardware = details(track="record", hardware="8x A100")
        make_submission(ours, PROGRAM, hardware, compare_logs(logs, logs))


@pytest.mark.timeout(900)
def test_the_verb_with_real_runs(
    golf: Golf, two_runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = golf.folder / "train_gpt.py"
    arguments = ["submit", *map(str, two_runs), "--program", str(program)]
    assert main([*arguments, "-o", str(tmp_path / "out"), "--standing-loss", "99"]) == 0
    assert "bytes to spare" in capsys.readouterr().out
    values = json.loads((tmp_path / "out" / "submission.json").read_text())
    largest = max((run / "model.pglm").stat().st_size for run in two_runs)
    assert values["bytes_total"] == program.stat().st_size + largest
    assert values["seeds"] == [1, 2]
    assert values["significance"]["standing_mean"] == 99
    assert values["pytorch_version"]
    assert (tmp_path / "out" / "train_gpt.py").read_bytes() == program.read_bytes()
    record_folder = str(tmp_path / "record")
    assert (
        main([*arguments, "-o", record_folder, "--standing-loss", "99", "--track", "record"]) == 1
    )
    assert "ranks, not 8" in capsys.readouterr().err
    assert not (tmp_path / "record").exists()


def test_the_verb_writes_the_program(tmp_path: Path) -> None:
    recipe = tmp_path / "toy.toml"
    recipe.write_text("[train]\n")
    program = tmp_path / "train_gpt.py"
    assert main(["submit", "--recipe", str(recipe), "-o", str(program)]) == 0
    compile(program.read_bytes(), "train_gpt.py", "exec")
    assert main(["submit", "--recipe", str(recipe), "-o", str(program)]) == 1
    assert main(["submit", "--recipe", "golf", "-o", str(tmp_path / "golf.py")]) == 0
    assert main(["submit", "--recipe", "gulf", "-o", str(tmp_path / "gulf.py")]) == 1
    assert main(["submit", "-o", "x"]) == 2
    assert main(["submit", "a.log", "-o", "x"]) == 2
    assert main(["submit", "a.log", "--recipe", str(recipe), "-o", "x"]) == 2


@pytest.mark.skipif(not RECORDS.is_dir(), reason="no public records beside the checkout")
def test_a_public_record_is_repeated(tmp_path: Path) -> None:
    folder = RECORDS / "leaky-relu-ttt"
    claim = json.loads((folder / "submission.json").read_text())
    found = [read_run(path) for path in sorted(folder.glob("*.log"))]
    program = bytes(89458)
    submission = make_submission(found, program, details(), None)
    values = submission.to_dict()
    assert values["bytes_total"] == claim["bytes_total"]
    assert round(values["val_bpb"], 4) == claim["val_bpb"]
    assert round(values["val_bpb_std"], 4) == 0.0006
    with pytest.raises(SubmissionError, match="a program of 89458 bytes ran, not of 89459"):
        make_submission(found, program + b"x", details(), None)
