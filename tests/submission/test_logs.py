"""Reading logs: ours, the challenge's, and texts that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pgolf_codec.errors import FormatError
from pgolf_codec.eval.logs import RunLog, read_log
from pgolf_codec.eval.significance import compare_logs

RECORDS = Path(__file__).parents[3] / "shared" / "records"

LOG = """\
W0318 14:37:59.159000 871689 site-packages/torch/distributed/run.py:852] ****
    log0(f"final_int8_zlib_roundtrip_exact val_loss:{q_val_loss:.8f} val_bpb:{q_val_bpb:.8f}")
logs/some.txt
world_size:8 grad_accum_steps:1
seed:42
step:0/9000 val_loss:6.9293 val_bpb:4.1039 train_time:0ms step_avg:0.01ms
step:1/9000 train_loss:6.9308 train_time:131ms step_avg:130.72ms
step:7182/9000 val_loss:1.9225 val_bpb:1.1386 train_time:600128ms step_avg:83.56ms
stopping_early: wallclock_cap train_time:600128ms step:7182/9000
Serialized model: 106027446 bytes
Code size: 89458 bytes
Serialized model int6+lzma: 15787052 bytes
Total submission size int6+lzma: 15876510 bytes
final_int6_roundtrip val_loss:1.9350 val_bpb:1.1460 eval_time:20430ms
final_int6_roundtrip_exact val_loss:1.93502821 val_bpb:1.14603270
ttt_sliding:done val_loss=1.891102 val_bpb=1.120020 elapsed=407.5s
legal_ttt val_loss:1.8911 val_bpb:1.1200 eval_time:408049ms
"""


def parse(tmp_path: Path, text: str, name: str = "train.log", label: str | None = None) -> RunLog:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_log(path, label)


def test_every_fact_of_a_log(tmp_path: Path) -> None:
    run = parse(tmp_path, LOG)
    assert run.seed == 42
    assert (run.steps, run.train_ms, run.world_size) == (7182, 600128, 8)
    assert (run.model_bytes, run.code_bytes, run.total_bytes) == (15787052, 89458, 15876510)
    assert (run.score.label, run.score.val_bpb) == ("final_int6_roundtrip_exact", 1.1460327)
    assert [v.step for v in run.curve] == [0, 7182]
    assert run.scores[-1].val_loss == 1.8911
    assert run.pytorch_version is None


def test_which_line_is_the_score(tmp_path: Path) -> None:
    rest = LOG + "legal_ttt_exact val_loss:1.89110239 val_bpb:1.12002032\n"
    assert parse(tmp_path, rest).score.val_loss == 1.89110239
    chosen = parse(tmp_path, rest, label="final_int6_roundtrip").score
    assert (chosen.val_loss, chosen.val_bpb) == (1.9350, 1.1460)
    with pytest.raises(FormatError, match=r"no line 'x' .* known are final_int6_roundtrip, "):
        parse(tmp_path, rest, label="x")
    without = "\n".join(line for line in LOG.splitlines() if "_exact" not in line)
    assert parse(tmp_path, without).score.label == "legal_ttt"
    steps = "\n".join(line for line in LOG.splitlines() if line.startswith("step:"))
    assert parse(tmp_path, steps).score.val_bpb == 1.1386


def test_the_seed_may_be_in_the_name(tmp_path: Path) -> None:
    text = LOG.replace("seed:42\n", "")
    assert parse(tmp_path, text, "train_seed1337.log").seed == 1337
    assert parse(tmp_path, text).seed is None
    assert parse(tmp_path, LOG, "train_seed1337.log").seed == 42


@pytest.mark.parametrize(
    "text", ["", "nothing of interest", "final val_loss:nan val_bpb:1.2", "x val_loss:0 val_bpb:1"]
)
def test_what_is_no_log(tmp_path: Path, text: str) -> None:
    with pytest.raises(FormatError, match=r"train\.log: "):
        parse(tmp_path, text)


def test_metrics(tmp_path: Path) -> None:
    rows = [
        {"params": 3},
        {"step": 20, "seconds": 1.5, "train_loss": 5.0},
        {"step": 40, "seconds": 3.0, "val_bpb": 2.5, "val_loss": 3.5},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    run = parse(tmp_path, text, "metrics.jsonl")
    assert (run.steps, run.train_ms, run.score.val_bpb, run.score.val_loss) == (40, 3000, 2.5, 3.5)
    with pytest.raises(FormatError, match="no val_loss"):
        parse(tmp_path, '{"step": 1, "val_bpb": 2.5}\n', "metrics.jsonl")
    with pytest.raises(FormatError, match=r"metrics\.jsonl:1"):
        parse(tmp_path, "{\n", "metrics.jsonl")


@pytest.mark.skipif(not RECORDS.is_dir(), reason="no public records beside the checkout")
def test_public_records() -> None:
    baseline = read_log(RECORDS / "naive-baseline" / "train.log")
    claim = json.loads((RECORDS / "naive-baseline" / "submission.json").read_text())
    assert baseline.score.val_bpb == pytest.approx(claim["val_bpb"], abs=1e-9)
    assert baseline.score.val_loss == claim["val_loss"]
    assert baseline.total_bytes == claim["bytes_total"] == 15863489
    assert (baseline.code_bytes, baseline.seed, baseline.steps) == (47642, 1337, 13780)
    folder = RECORDS / "leaky-relu-ttt"
    runs = [read_log(path) for path in sorted(folder.glob("*.log"))]
    claim = json.loads((folder / "submission.json").read_text())
    assert sorted(run.seed or 0 for run in runs) == [42, 1337, 2025]
    assert round(sum(run.score.val_bpb for run in runs) / 3, 4) == claim["val_bpb"]
    assert max(run.total_bytes or 0 for run in runs) == claim["bytes_total"]
    # The two were scored on different exports: 63,779,840 and 62,021,632 tokens.
    verdict = compare_logs(runs, [baseline])
    assert verdict.unit.startswith("bits a byte")
    assert verdict.significant
    assert verdict.std == pytest.approx(0.00098, abs=1e-5)
