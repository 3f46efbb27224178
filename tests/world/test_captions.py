"""The vocabulary reads what it writes, and says clearly what it cannot read."""

import itertools
from collections import Counter

import pytest

from dreamsplat.errors import InvalidInput, UnknownWord
from dreamsplat.world.language.captions import (
    Caption,
    caption,
    held_out_pairs,
    known_words,
    parse_caption,
    trained_pairs,
)
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, COLOURS, VIEW_WORDS
from dreamsplat.world.objects.categories import CATEGORIES


def test_every_caption_reads_back_as_what_it_was_made_of() -> None:
    for i, colour in enumerate(COLOURS):
        for j, category in enumerate(CATEGORY_NAMES):
            assert parse_caption(caption(colour, category)) == Caption(i, j, None)
            for k, view in enumerate(VIEW_WORDS):
                assert parse_caption(f"{caption(colour, category)}, {view} view") == Caption(i, j, k)


def test_captions_use_the_right_article() -> None:
    assert caption("red", "mushroom") == "a red mushroom"
    assert caption("orange", "car") == "an orange car"


@pytest.mark.parametrize(
    "text",
    [
        "a red mushroom, front view",
        "RED Mushroom front",
        "front view of a red mushroom.",
        " the  red mushroom , front ",
    ],
)
def test_word_order_case_and_little_words_do_not_matter(text: str) -> None:
    assert parse_caption(text) == parse_caption("a red mushroom, front view")


def test_what_a_prompt_leaves_out_is_none() -> None:
    assert parse_caption("") == parse_caption("  ") == Caption(None, None, None)
    assert parse_caption("a car").colour is None
    assert parse_caption("blue").category is None


def test_an_unknown_word_is_named_with_its_neighbours_and_the_way_out() -> None:
    with pytest.raises(UnknownWord, match=r"the word 'mushrom' \(mushroom\)\..*`preset` gaussiandreamer"):
        parse_caption("a red mushrom")
    with pytest.raises(UnknownWord, match="'xyzzyq'. They know objects: mushroom, mug"):
        parse_caption("xyzzyq")


@pytest.mark.parametrize("text", ["a red blue car", "a car duck", "a car, front view, back view"])
def test_two_words_of_one_kind_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"2 (colour|object|view) words"):
        parse_caption(text)


def test_an_overlong_prompt_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidInput, match="300 characters, expected at most 200"):
        parse_caption("x" * 300)


def test_colours_are_well_apart() -> None:
    for (_, first), (_, second) in itertools.combinations(COLOURS.items(), 2):
        assert max(abs(a - b) for a, b in zip(first, second, strict=True)) > 0.25


def test_one_tenth_of_the_pairs_is_held_out_and_every_word_is_still_learnt() -> None:
    held_out, trained = held_out_pairs(), trained_pairs()
    assert len(held_out) == 12 and len(trained) == 108
    assert not set(held_out) & set(trained)
    uses = Counter(word for pair in trained for word in pair)
    assert min(uses[word] for word in (*COLOURS, *CATEGORY_NAMES)) >= 7


def test_the_held_out_pairs_stay_the_same_for_ever() -> None:
    # Trained weights depend on them: if this changes, the measured composition of shipped models becomes meaningless.
    assert [caption(*pair) for pair in held_out_pairs()] == [
        "a cyan mug", "a red mug", "a green duck", "a white chair", "a white rocket", "a pink boat", "a pink rocket",
        "an orange boat", "a yellow snowman", "a red tree", "a purple snowman", "an orange table",
    ]  # fmt: skip


def test_the_vocabulary_names_the_categories_in_the_order_in_which_they_are_made() -> None:
    assert tuple(CATEGORIES) == CATEGORY_NAMES == tuple(category.name for category in CATEGORIES.values())


def test_no_word_has_two_meanings() -> None:
    assert len(set(known_words())) == len(known_words())


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a grey truck", "the words 'grey' (white), 'truck' (car)."),
        ("red cars", "the word 'cars' (car)."),
        ("a tabel and a yelow hous", "the words 'tabel' (table), 'and', 'yelow' (yellow), 'hous' (house)."),
        ("빨간 버섯", "'빨간' (red), '버섯' (mushroom)."),
        ("a wooden zebra", "the words 'wooden', 'zebra'. They know objects: mushroom, "),
    ],
)
def test_all_unknown_words_are_named_with_what_they_stand_for_and_never_with_nonsense(prompt, told):
    with pytest.raises(UnknownWord) as refused:
        parse_caption(prompt)
    assert told in str(refused.value) and "\n" not in str(refused.value)


def test_every_suggestion_is_a_word_that_is_known():
    from dreamsplat.world.language.suggestions import _BY_MEANING

    assert set(_BY_MEANING.values()) <= set(known_words()) and not set(_BY_MEANING) & set(known_words())
