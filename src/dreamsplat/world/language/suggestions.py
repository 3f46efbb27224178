"""Words that the bundled models know for words that they do not: by spelling, or by meaning."""

import difflib
from collections.abc import Iterable

from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, COLOUR_NAMES

_SIMILAR = 0.75
"""Least similarity of two spellings of one word; "truck" and "duck" have 0.67."""
_MEANT = {
    "mushroom": "toadstool fungus champignon pilz 버섯", "mug": "cup beaker tumbler tasse becher 컵 머그 머그컵",
    "chair": "seat stool armchair stuhl 의자", "table": "desk bench tisch 테이블 탁자 책상",
    "snowman": "schneemann 눈사람", "rocket": "spaceship spacecraft missile rakete 로켓",
    "house": "home cottage hut cabin building haus 집", "tree": "oak fir pine bush baum 나무",
    "car": "automobile auto vehicle truck lorry van sedan wagen 자동차 차", "duck": "duckling bird goose ente 오리",
    "boat": "ship sailboat vessel schiff boot 배 보트", "teapot": "kettle teekanne 주전자 찻주전자",
    "red": "crimson scarlet ruby rot 빨간 빨강", "orange": "amber 주황 주황색", "yellow": "gold golden gelb 노란 노랑",
    "green": "emerald olive lime grün 초록 녹색", "cyan": "turquoise teal aqua 청록 청록색",
    "blue": "azure navy indigo blau 파란 파랑", "purple": "violet lilac magenta lila 보라 보라색",
    "pink": "rose rosa 분홍 분홍색", "white": "grey gray silver ivory weiß 하얀 흰 흰색",
    "black": "dark schwarz 검은 검정",
}  # fmt: skip
_BY_MEANING = {word: known for known, words in _MEANT.items() for word in words.split()}


def suggestion(word: str) -> str | None:
    """The known word that another one most likely stands for; None if there is none."""
    if found := _BY_MEANING.get(word) or _BY_MEANING.get(word.removesuffix("s")):
        return found
    near = difflib.get_close_matches(word, (*COLOUR_NAMES, *CATEGORY_NAMES), n=1, cutoff=_SIMILAR)
    return near[0] if near else None


def explained(words: Iterable[str]) -> str:
    """Unknown words, each with what it may stand for: "'truck' (car), 'shiny'"."""
    named = ((word[:40], suggestion(word)) for word in dict.fromkeys(words))
    return ", ".join(f"'{word}'" + (f" ({meant})" if meant else "") for word, meant in named)
