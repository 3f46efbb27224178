"""Errors of the library in the words of the command line: settings become flags."""

from __future__ import annotations

import re

from dreamsplat.errors import DreamsplatError, UnknownWord

WITHOUT_FLAG = ("prompt", "loss", "prior2d", "prior3d", "representation", "times")
"""Settings that are given by a word instead: a text, or a choice such as `loss:ism`."""

_SETTING = re.compile(r"`([a-z]\w*(?:\.\w+)*)`")


def in_shell_words(error: DreamsplatError) -> str:
    """An error on one line, as in "--loss.guidance-scale: nan, expected a finite number."."""
    place = f"{_flag(error.setting)}: " if error.setting else ""
    advice = f" {error.advice}" if error.advice else ""
    more = " `dreamsplat words` lists them." if isinstance(error, UnknownWord) else ""
    return place + with_flags(f"{error.message}{advice}") + more


def with_flags(text: str) -> str:
    """A text in which settings between backticks, `render_size`, are flags, --render-size."""
    return _SETTING.sub(lambda match: _flag(match[1]), text)


def _flag(setting: str) -> str:
    return setting if setting in WITHOUT_FLAG else f"--{setting.replace('_', '-')}"
