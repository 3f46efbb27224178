"""One writer per folder, and asking who it is disturbs nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dreamsplat.errors import FileProblem
from dreamsplat.runs import holder, lock
from dreamsplat.runs.lock import locked

POLL = """
import sys
from pathlib import Path
from dreamsplat.runs.lock import holder
folder, asked = Path(sys.argv[1]), 0
print("ready", flush=True)
while not (folder / "enough").exists():
    asked, _ = asked + 1, holder(folder)
print(asked, holder(folder).pid)
"""


def starts_refused(folder: Path, starts: int) -> int:
    """How many of so many starts are refused while another process polls, which sees the last holder."""
    poller = subprocess.Popen([sys.executable, "-c", POLL, str(folder)], stdout=subprocess.PIPE, text=True)
    assert poller.stdout is not None and poller.stdout.readline() == "ready\n"
    refused = 0
    for _ in range(starts):
        try:
            with locked(folder):
                pass
        except FileProblem:
            refused += 1
    with locked(folder):
        (folder / "enough").touch()
        told, _ = poller.communicate(timeout=60)
    asked, pid = map(int, told.split())
    assert asked > 0 and pid == os.getpid()
    return refused


def test_polling_refuses_no_start(tmp_path: Path) -> None:
    assert starts_refused(tmp_path, 100) == 0


def test_polling_refuses_none_of_a_thousand_starts(tmp_path: Path) -> None:
    assert starts_refused(tmp_path, 1000) == 0


def test_a_second_writer_is_refused_by_name_and_the_first_goes_on(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert f"process {os.getpid()}" in str(holder(tmp_path))
        with pytest.raises(FileProblem, match=f"process {os.getpid()}"), locked(tmp_path):
            pass
        assert holder(tmp_path) is not None
    assert holder(tmp_path) is None
    with locked(tmp_path):
        pass


def test_a_second_thread_is_refused_too(tmp_path: Path) -> None:
    told: list[str] = []

    def start() -> None:
        try:
            with locked(tmp_path):
                told.append("two writers")
        except FileProblem as problem:
            told.append(str(problem))

    with locked(tmp_path):
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    assert len(told) == 1 and "another run writes there" in told[0]


HOLD = """
import sys, time
from pathlib import Path
from dreamsplat.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("reaped", [False, True])
def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, reaped: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    owner = holder(tmp_path)
    assert owner is not None and owner.pid == process.pid
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # It has ended, but is a zombie until it is waited for.
    if reaped:
        process.wait()
    left = holder(tmp_path)
    process.communicate()
    assert left is None
    with locked(tmp_path):
        pass
    assert any(f"process {process.pid}" in record.getMessage() for record in caplog.records)


def test_another_process_of_the_same_number_is_not_the_holder(tmp_path: Path) -> None:
    with locked(tmp_path):
        owner = json.loads((tmp_path / lock.OWNER).read_text())
        (tmp_path / lock.OWNER).write_text(json.dumps(owner | {"started": "long ago"}))
        assert holder(tmp_path) is None


def test_a_holder_on_another_machine_counts_as_alive(tmp_path: Path) -> None:
    with locked(tmp_path):
        owner = json.loads((tmp_path / lock.OWNER).read_text())
        (tmp_path / lock.OWNER).write_text(json.dumps(owner | {"host": "elsewhere", "pid": 1 << 22}))
        assert "elsewhere" in str(holder(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"{}", b'{"pid": "x", "started": "", "host": "", "since": ""}']
)
def test_a_damaged_owner_is_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / lock.OWNER).write_bytes(content)
    assert holder(tmp_path) is None
    with locked(tmp_path):
        assert holder(tmp_path) is not None


def test_ps_tells_a_process_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    started = lock._start_told_by_ps(os.getpid())
    assert started and started == lock._start_told_by_ps(os.getpid())
    assert lock._start_told_by_ps(1 << 22) is None
