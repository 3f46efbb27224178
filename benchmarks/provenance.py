"""Where and when a number was made, which every claim carries."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import torch


def provenance(command: str) -> dict[str, str]:
    """Where and when numbers are made: machine, commit, date, command."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    machine = f"{_processor()}, {len(os.sched_getaffinity(0))} cores"
    if torch.cuda.is_available():
        machine += f", {torch.cuda.get_device_name()}"
    date = datetime.date.today().isoformat()
    return {
        "machine": f"{machine}, torch {torch.__version__}",
        "commit": commit or "unknown",
        "date": date,
        "command": command,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
