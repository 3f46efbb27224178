"""Checkpoints: how many stay, what happens to damaged ones, and when the disk is full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_run import go_on

from dreamsplat.errors import FileProblem
from dreamsplat.formats import load
from dreamsplat.runs import checkpoints, newest_checkpoint, read_checkpoint, read_record


def asset(folder: Path) -> bytes:
    return (folder / "asset.ply").read_bytes()


def test_the_newest_two_checkpoints_are_kept(unbroken: Path) -> None:
    names = sorted(path.name for path in (unbroken / "checkpoints").glob("step-*"))
    assert names == ["step-0000035.safetensors", "step-0000040.safetensors"]


@pytest.mark.parametrize("damage", [b"", b"\x00" * 50, "cut", "flip in the header", "flip in the numbers"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_and_says_so(
    damage: Any, unbroken: Path, killed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = killed / "checkpoints" / "step-0000030.safetensors"
    content = path.read_bytes()
    changed = {
        "cut": content[: len(content) // 2],
        "flip in the header": content[:20] + b"~" + content[21:],
        "flip in the numbers": content[:-99] + bytes([content[-99] ^ 1]) + content[-98:],
    }
    path.write_bytes(changed.get(damage, damage))
    with pytest.raises(FileProblem, match="damaged"):
        read_checkpoint(path)
    go_on(killed)
    assert any("step-0000030" in r.getMessage() and "damaged" in r.getMessage() for r in caplog.records)
    assert asset(killed) == asset(unbroken)


def test_only_damaged_checkpoints_are_one_error_that_says_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "checkpoints").mkdir()
    for step in (5, 10):
        (tmp_path / "checkpoints" / f"step-{step:07d}.safetensors").write_bytes(b"nonsense")
    with pytest.raises(FileProblem, match="all checkpoints are damaged. Start the run again"):
        go_on(tmp_path)
    assert caplog.records == []


def test_a_full_disk_ends_in_one_line_and_leaves_the_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = checkpoints.save_file, []

    def save(tensors: Any, path: Path, metadata: Any) -> None:
        if len(written) == 3:
            Path(path).write_bytes(b"half of i")
            raise OSError(28, "No space left on device")
        written.append(path)
        real(tensors, path, metadata)

    monkeypatch.setattr(checkpoints, "save_file", save)
    with pytest.raises(FileProblem, match="No space left on device"):
        go_on(tmp_path)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.step == 10  # after 0 and 5
    assert not list((tmp_path / "checkpoints").glob("*.tmp*")) and not list((tmp_path / "checkpoints").glob(".*"))
    assert len(load(tmp_path / "asset.ply")) > 0
    assert read_record(tmp_path).state == "failed"


def test_a_folder_in_the_place_of_a_checkpoint_is_passed_over(unbroken: Path, killed: Path) -> None:
    (killed / "checkpoints" / "step-0000030.safetensors").unlink()
    (killed / "checkpoints" / "step-0000030.safetensors").mkdir()
    with pytest.raises(FileProblem, match="step-0000030"):  # It is in the way of the next one.
        go_on(killed)
    (killed / "checkpoints" / "step-0000030.safetensors").rmdir()
    go_on(killed)
    assert asset(killed) == asset(unbroken)
