import pytest

from rlnorm.errors import InputError
from rlnorm.rewards.json_values import same_json
from rlnorm.rewards.match import Regex, boxed_exact, exact
from rlnorm.rewards.schema import JsonSchema, matches
from rlnorm.rewards.types import Sample, Status


@pytest.mark.parametrize(
    ("text", "gold", "status"),
    [
        (r"\boxed{92}", "92", "correct"),
        (r"\boxed{92}", 92, "correct"),
        (r"\boxed{ 092 }", "92", "correct"),
        (r"\boxed{-0}", "0", "correct"),
        (r"\boxed{9} \boxed{92}", "92", "correct"),
        (r"\boxed{92} \boxed{9}", "92", "wrong"),
        (r"\boxed{92}", ["1", "92"], "correct"),
        (r"\boxed{92", "92", "wrong"),
        (r"\boxed{}", "92", "wrong"),
        ("92", "92", "no_answer"),
        (r"<think>\boxed{92}", "92", "no_answer"),
        (r"\boxed{9" + "9" * 5000 + "}", "92", "wrong"),
    ],
)
def test_boxed_exact(text, gold, status):
    score = boxed_exact(text, gold)
    assert score.status == status
    assert score.components["score"] == float(status == "correct")


def test_a_missing_gold_is_an_error():
    with pytest.raises(ValueError, match="needs a gold"):
        boxed_exact(r"\boxed{1}", None)


def test_exact_takes_text_tag_or_box():
    assert exact("<think>x</think> Yes ", "Yes").status is Status.CORRECT
    assert exact("yes", "Yes").status is Status.WRONG
    assert exact("yes", "Yes", casefold=True).status is Status.CORRECT
    assert exact("so <answer>7</answer>", "7", answer="tag").status is Status.CORRECT
    assert exact(r"so \boxed{7}", "7", answer="box").status is Status.CORRECT
    assert exact("7", "7", answer="tag").status is Status.NO_ANSWER


def test_regex():
    sample = Sample(id="1", group="g", completion="<think>no 5</think>total: 12", gold="12")
    assert Regex(pattern=r"total: \d+")(sample).status is Status.CORRECT
    assert Regex(pattern=r"\d+", full=True)(sample).status is Status.WRONG
    assert Regex(pattern=r"total: (?P<answer>\d+)")(sample).status is Status.CORRECT
    assert Regex(pattern=r"(?P<answer>\d)$")(sample).status is Status.WRONG
    with pytest.raises(ValueError, match=r"regex.pattern = '\('"):
        Regex(pattern="(")


SCHEMA = {
    "type": "object",
    "required": ["name", "age"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
}


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ({"name": "x", "age": 3}, True),
        ({"name": "x", "age": 3, "tags": ["a", "b"]}, True),
        ({"name": "x", "age": 3, "tags": ["c"]}, False),
        ({"name": "x", "age": 3, "tags": ["a", "a", "a"]}, False),
        ({"name": "", "age": 3}, False),
        ({"name": "X", "age": 3}, False),
        ({"name": "x", "age": -1}, False),
        ({"name": "x", "age": True}, False),
        ({"name": "x", "age": 3.5}, False),
        ({"name": "x"}, False),
        ({"name": "x", "age": 3, "more": 1}, False),
        ([], False),
    ],
)
def test_schema_keywords(value, good):
    assert matches(value, SCHEMA) == good


def test_schema_combinations_and_deep_equality():
    assert matches(3, {"oneOf": [{"type": "integer"}, {"type": "string"}]})
    assert not matches(3, {"oneOf": [{"type": "integer"}, {"minimum": 0}]})
    assert matches(3, {"anyOf": [{"const": 4}, {"const": 3.0}]})
    assert not matches(3, {"allOf": [{"minimum": 0}, {"multipleOf": 2}]})
    assert not matches("a", {"not": {"type": "string"}})
    assert not matches([1, 1.0], {"uniqueItems": True})
    assert matches([1, True], {"uniqueItems": True})
    assert same_json({"a": [1, {"b": None}]}, {"a": [1.0, {"b": None}]})
    assert not same_json({"a": 1}, {"a": True})


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"name": "x", "age": 3}', "correct"),
        ('<think>{}</think>Here:\n```json\n{"name": "x", "age": 3}\n```\n', "correct"),
        ('{"name": "x"}', "wrong"),
        ("{'name': 'x'}", "unparsable"),
        ("[" * 5000, "unparsable"),
        ("<think>", "no_answer"),
    ],
)
def test_json_schema_reward(text, status):
    sample = Sample(id="1", group="g", completion=text)
    assert JsonSchema(schema=SCHEMA)(sample).status == status


def test_json_schema_refuses_what_it_would_ignore():
    with pytest.raises(InputError, match="did you mean 'properties'"):
        JsonSchema(schema={"propertys": {}})
    with pytest.raises(InputError, match=r"schema.properties.a.type = 'int'"):
        JsonSchema(schema={"properties": {"a": {"type": "int"}}})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"minimum": "x"}, r"minimum = 'x': needs a number"),
        ({"maximum": True}, r"maximum = True: needs a number"),
        ({"multipleOf": 0}, r"multipleOf = 0: needs a number above 0"),
        ({"minLength": -1}, r"minLength = -1: needs a whole number from 0"),
        ({"pattern": "("}, r"pattern = '\(': needs a regular expression"),
        ({"pattern": 3}, r"pattern = 3: needs a regular expression"),
        ({"uniqueItems": "no"}, r"uniqueItems = 'no': needs true or false"),
        ({"items": {"required": 3}}, r"items\.required = 3: needs a list of names"),
        ({"required": "name"}, r"required = 'name': needs a list of names"),
        ({"enum": "ab"}, r"enum = 'ab': needs a list"),
        ({"anyOf": {"type": "null"}}, r"anyOf = .*: needs a list of schemas"),
        ({"properties": ["a"]}, r"properties = \['a'\]: needs a table"),
        ({"type": 3}, r"type = 3: needs one or a list of \['array'"),
        ({3: 1}, r"schema\.3: allowed"),
    ],
)
def test_json_schema_refuses_values_of_the_wrong_kind(schema, message):
    with pytest.raises(InputError, match=message):
        JsonSchema(schema=schema)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"multipleOf": 0.5}, "1" * 400),  # larger than any float
        ({"uniqueItems": True}, f"[{'[' * 600 + ']' * 600}, {'[' * 600 + ']' * 600}]"),
    ],
)
def test_json_that_cannot_be_checked_is_unparsable_and_no_exception(schema, text):
    sample = Sample(id="1", group="g", completion=text)
    assert JsonSchema(schema=schema)(sample).status == Status.UNPARSABLE
