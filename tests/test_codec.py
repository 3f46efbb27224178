"""Settings as JSON: what is written is read back the same, and what is not a setting is refused by its name."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamsplat import PRESETS, DreamConfig, codec, registry
from dreamsplat.errors import InvalidInput
from dreamsplat.guidance import ISM, SDS, VSD
from dreamsplat.method.schedule import AnnealedTimes
from dreamsplat.priors3d import FromFile
from dreamsplat.representations import Splats


def as_json(config: Any) -> Any:
    return json.loads(json.dumps(codec.to_json(config), allow_nan=False))


def refusal(values: Any, cls: type = DreamConfig) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        cls.from_json(values) if cls is DreamConfig else codec.from_json(cls, values)
    told = str(caught.value)
    # Nothing of the library's own words; a name that was made up may hold any of these words.
    assert "\n" not in told and not any(words in told for words in ("errors.pydantic", "[type=", "Input should"))
    return caught.value


# There and back


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name: str) -> None:
    config = replace(PRESETS[name], prompt="a fox")
    assert DreamConfig.from_json(as_json(config)) == config


@pytest.mark.parametrize("kind", ["losses", "priors2d", "priors3d", "representations", "times"])
def test_every_member_of_the_registry_survives_json(kind: str) -> None:
    field = {"losses": "loss", "priors2d": "prior2d", "priors3d": "prior3d", "representations": "representation"}
    for name, cls in registry.members(kind).items():
        config = replace(DreamConfig(), **{field.get(kind, kind): cls()})
        written = as_json(config)
        assert written[field.get(kind, kind)]["kind"] == name
        assert DreamConfig.from_json(written) == config


def test_what_is_read_is_written_the_same_to_the_letter() -> None:
    config = DreamConfig(loss=SDS(guidance_scale=7), times=AnnealedTimes(least=0.1, first=1))  # int for float
    written = json.dumps(config.to_json())
    assert json.dumps(DreamConfig.from_json(json.loads(written)).to_json()) == written
    assert '"guidance_scale": 7,' in written


def test_only_members_of_the_registry_carry_their_kind() -> None:
    written = DreamConfig().to_json()
    assert "kind" not in written and "kind" not in written["clip"] and "kind" not in written["representation"]["lift"]
    assert (written["loss"]["kind"], written["representation"]["kind"]) == ("sds", "splats")


@pytest.mark.parametrize("values", [{}, {"loss": {}}, {"representation": {"lift": {}}}])
def test_what_is_missing_is_taken_from_the_base_as_deep_as_it_is_of_the_same_kind(values: dict[str, Any]) -> None:
    base = PRESETS["fast"]
    assert codec.from_json(DreamConfig, values, base) == base
    assert DreamConfig.from_json(values) == DreamConfig()


def test_another_kind_takes_its_own_defaults() -> None:
    assert DreamConfig.from_json({"loss": {"kind": "ism", "strides": 3}}).loss == ISM(strides=3)
    assert DreamConfig.from_json({"loss": {"rescale": 0.5}}).loss == SDS(guidance_scale=2.0, rescale=0.5)


def test_a_class_that_no_package_registers_is_named_by_its_place_and_not_read_back() -> None:
    @dataclass(frozen=True)
    class Mine(SDS):
        pass

    written = as_json(DreamConfig(loss=Mine()))
    assert written["loss"]["kind"].startswith("test_codec:") and written["loss"]["kind"].endswith("Mine")
    refused = refusal(written)
    assert refused.setting == "loss.kind" and "resume=True" in refused.advice


def test_paths_are_listed_by_their_settings() -> None:
    config = DreamConfig(prior3d=FromFile(file=Path("a/chair.glb")))
    assert codec.paths(config) == {"prior3d.file": Path("a/chair.glb")}
    assert codec.paths(DreamConfig()) == {}


# Refused by name


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"prompt": 5}, "prompt"), ({"seed": 1.5}, "seed"), ({"seed": True}, "seed"), ({"seed": "5"}, "seed"),
        ({"seed": 1.0}, "seed"), ({"device": "tpu"}, "device"), ({"device": None}, "device"),
        ({"representation": {"lift": {"radius": "x"}}}, "representation.lift.radius"),
        ({"representation": {"lift": {"radius": True}}}, "representation.lift.radius"),
        ({"representation": {"lift": None}}, "representation.lift"), ({"representation": []}, "representation"),
        ({"prior2d": {"view": "nonsense"}}, "prior2d.view"), ({"prior2d": {"weights": 3}}, "prior2d.weights"),
        ({"loss": {"kind": "nonsense"}}, "loss.kind"), ({"loss": {"kind": None}}, "loss.kind"),
        ({"loss": {"kind": ["sds"]}}, "loss.kind"), ({"representation": {"kind": "x"}}, "representation.kind"),
        ({"loss": "sds"}, "loss"), ({"loss": {"guidance_scale": float("nan")}}, "loss.guidance_scale"),
        ({"loss": {"guidance_scale": float("inf")}}, "loss.guidance_scale"),
        ({"loss": {"guidance_scale": 10**400}}, "loss.guidance_scale"), ({"steps": 10**400}, "steps"),
        ({"steps": -(10**30)}, "steps"), ({"loss": {"guidance_scale": -1}}, "loss.guidance_scale"),
        ({"cameras": {"distance": [1]}}, "cameras.distance"),
        ({"cameras": {"distance": [1, 2, 3]}}, "cameras.distance"),
        ({"cameras": {"distance": [1, "2"]}}, "cameras.distance"), ({"cameras": {"distance": 1}}, "cameras.distance"),
        ({"cameras": {"distance": [2, 1]}}, "cameras.distance"), ({"cameras": {"opposite": 1}}, "cameras.opposite"),
        ({"clip": {"steps": 0}}, "clip.steps"), ({"times": {"late": [0.5, 0.1]}}, "times.late"),
        ({"times": {"kind": "annealed", "last": 0.99}}, "times"), ({"stepz": 3}, "stepz"),
        ({"loss": {"strides": 3}}, "loss.strides"), ({"kind": "DreamConfig"}, "kind"), ([], ""), (None, ""), ("x", ""),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_the_name_of_its_setting(values: Any, setting: str) -> None:
    assert refusal(values).setting == setting


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"prompt": 5}, "prompt: 5, expected text."),
        ({"seed": 1.5}, "seed: 1.5, expected a whole number."),
        ({"device": "tpu"}, "device: 'tpu', expected 'auto', 'cpu' or 'cuda'."),
        ({"prior2d": {"kind": "x"}}, "prior2d.kind: 'x', expected one of 'bundled', 'stable-diffusion', 'perfect'."),
        ({"loss": {"scale": 1}}, "loss.scale: unknown setting."),
        ({"steps": -1}, "steps: -1, expected 0 to 1000000000."),
        ({"cameras": {"distance": [1]}}, "cameras.distance: more items expected."),
    ],
)
def test_a_refusal_says_what_came_and_what_was_expected(values: Any, told: str) -> None:
    assert str(refusal(values)) == told


def test_a_name_that_would_command_a_terminal_is_told_on_one_printable_line() -> None:
    error = refusal({"a\nb\x1b[31m" + 200 * "c": 1})
    assert error.setting.isprintable() and len(error.setting) <= 60


@dataclass(frozen=True)
class Strange:
    """Settings that must be given, of all the types there are."""

    count: int
    """How many."""
    names: tuple[str, ...] = ()
    scale: float | Literal["auto"] = "auto"
    home: Path | None = None


def test_a_setting_without_a_default_must_be_given() -> None:
    assert refusal({}, Strange).setting == "count"
    given = {"count": 2, "names": ["a", "b"], "scale": 0.5, "home": "/tmp"}
    read = codec.from_json(Strange, given)
    assert read == Strange(2, ("a", "b"), 0.5, Path("/tmp")) and as_json(read) == given
    assert refusal({"count": 1, "scale": "x"}, Strange).setting == "scale"
    assert refusal({"count": 1, "names": ["a", 1]}, Strange).setting == "names"


@pytest.mark.parametrize("hint", ["list[int]", "dict[str, int]", "object", "complex", "set[int]"])
def test_a_type_that_json_and_flags_cannot_express_is_refused(hint: str) -> None:
    cls = dataclasses.make_dataclass("Odd", [("field", hint, None)], frozen=True)
    with pytest.raises(InvalidInput, match=r"Odd\.field: .* is not a type for settings"):
        codec.check_fields(cls)


# The schema


def test_the_schema_is_valid_and_takes_what_is_written() -> None:
    schema = codec.schema(DreamConfig)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for config in (*PRESETS.values(), DreamConfig(loss=VSD(), prior3d=FromFile(Path("x.ply")))):
        validator.validate(as_json(config))
    for wrong in ({"prompt": 5}, {"device": "tpu"}, {"extra": 1}, {"loss": {"kind": "x"}}, {"seed": 1.5}):
        assert not validator.is_valid(wrong)


def test_the_schema_describes_every_setting_by_its_docstring_and_default() -> None:
    schema = codec.schema(DreamConfig)
    parts = [schema, *schema["$defs"].values()]
    bare = [
        f"{part['title']}.{name}"
        for part in parts
        for name, field in part["properties"].items()
        if name != "kind" and not ("description" in field and "default" in field)
    ]
    assert bare == [] and len(parts) > 12
    assert schema["properties"]["steps"]["description"] == "Optimisation steps."
    assert schema["properties"]["prior2d"]["default"]["kind"] == "bundled"
    assert schema["properties"]["prior2d"]["discriminator"]["propertyName"] == "kind"


# At random

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ALL = DreamConfig().to_json()
MEMBERS = {
    "loss": "losses", "prior2d": "priors2d", "prior3d": "priors3d", "representation": "representations",
    "times": "times",
}  # fmt: skip


def places(values: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The way to every value in nested objects."""
    found = [above] if above else []
    for name, value in values.items() if isinstance(values, dict) else ():
        found += places(value, (*above, name))
    return found


def fits(wrong: Any, right: Any) -> bool:
    """Whether a value may be of the type of another: then it is not a wrong type, and perhaps a good value."""
    if isinstance(right, bool) or isinstance(wrong, bool):
        return isinstance(right, bool) and isinstance(wrong, bool)
    if isinstance(right, float):
        return wrong is None or isinstance(wrong, int | float)
    if right is None:
        return wrong is None or isinstance(wrong, str | int)
    return isinstance(wrong, type(right)) or (wrong is None and isinstance(right, int))


@st.composite
def documents(draw: st.DrawFn) -> tuple[Any, str]:
    """A configuration in JSON with one value of a wrong type, or one unknown name; and the setting at fault."""
    values = copy.deepcopy(ALL)
    for field, kind in MEMBERS.items():
        values[field] = codec.to_json(draw(st.sampled_from([cls() for cls in registry.members(kind).values()])))
    way = draw(st.sampled_from(places(values)))
    holder = values
    for name in way[:-1]:
        holder = holder[name]
    if draw(st.booleans()):
        holder[way[-1]] = draw(ANYTHING.filter(lambda wrong: not fits(wrong, holder[way[-1]])))
        return values, ".".join(way)
    unknown = draw(st.text(min_size=1, max_size=8).filter(lambda name: name not in {*holder, "kind"}))
    holder[unknown] = draw(ANYTHING)
    return values, ".".join(
        (*way[:-1], "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in unknown))
    )


def check_that_it_is_refused_by_name(document: tuple[Any, str]) -> None:
    values, setting = document
    error = refusal(values)
    assert error.setting == setting, f"{error.setting!r} is refused instead of {setting!r}"


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents())
def test_random_wrong_types_and_names_are_refused_by_the_name_of_the_setting(document: tuple[Any, str]) -> None:
    check_that_it_is_refused_by_name(document)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents())
def test_ten_thousand_random_wrong_documents_are_refused_by_name(document: tuple[Any, str]) -> None:
    check_that_it_is_refused_by_name(document)


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(ANYTHING)
def test_no_json_at_all_ends_in_anything_but_a_config_or_a_refusal(values: Any) -> None:
    try:
        assert isinstance(DreamConfig.from_json(values), DreamConfig)
    except InvalidInput as error:
        assert "\n" not in str(error)


@st.composite
def configs(draw: st.DrawFn) -> DreamConfig:
    """A valid configuration."""
    share, positive = st.floats(0, 1), st.floats(1e-6, 1e6)
    low, high = sorted((draw(st.floats(0.01, 1)), draw(st.floats(0.01, 1))))
    return DreamConfig(
        prompt=draw(st.text(st.characters(codec="utf-8"))), seed=draw(st.integers(0, 2**63 - 1)),
        steps=draw(st.integers(0, 10**9)), views=draw(st.integers(1, 1000)),
        device=draw(st.sampled_from(["auto", "cpu", "cuda"])),
        loss=draw(st.builds(ISM, guidance_scale=positive, rescale=share) | st.builds(VSD, rank=st.integers(1, 99))),
        times=draw(st.just(AnnealedTimes(least=low, last=high, first=high))),
        prior3d=draw(st.builds(FromFile, file=st.just(Path("a b/\u00e9.ply")), turn_deg=positive, size=positive)),
        representation=replace(Splats(), lift=replace(Splats().lift, radius=draw(positive), opacity=draw(share))),
    )  # fmt: skip


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(configs())
def test_random_valid_configs_survive_json(config: DreamConfig) -> None:
    assert DreamConfig.from_json(as_json(config)) == config
