import pytest

from rlnorm.errors import InputError
from rlnorm.rewards.json_values import same_json
from rlnorm.rewards.match import Regex, boxed_exact, exact
from rlnorm.rewards.schema import JsonSchema, make_validator
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
        (r"\boxed{92}<|im_end|> \boxed{9}", "92", "correct"),
        (r"\boxed{9}</s> \boxed{92}", "92", "wrong"),
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
    assert exact("Yes<|eot_id|>No", "Yes").status is Status.CORRECT
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


def matches(value, schema):
    return make_validator(schema, "schema").is_valid(value)


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


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            {"properties": {"a": {"type": "int"}}},
            r"schema\.properties\.a\.type = 'int': 'int' is not",
        ),
        ({"anyOf": [True, {"minimum": "x"}]}, r"schema\.anyOf\[1\]\.minimum = 'x': .* 'number'"),
        ({"maximum": True}, r"maximum = True: True is not of type 'number'"),
        ({"multipleOf": 0}, r"multipleOf = 0: 0 is less than or equal to"),
        ({"minLength": -1}, r"minLength = -1: -1 is less than the minimum"),
        ({"pattern": "("}, r"pattern = '\(': '\(' is not a 'regex'"),
        ({"required": "name"}, r"required = 'name': 'name' is not of type 'array'"),
        ({"anyOf": {"type": "null"}}, r"anyOf = .*: .* is not of type 'array'"),
        (["a"], r"schema = \['a'\]: needs a table or a boolean"),
        ({"$schema": "http://json-schema.org/draft-99/schema#"}, r"\$schema = .*: not a draft"),
        (
            {"items": {"$ref": "http://127.0.0.1:9/a.json"}},
            r"ref = 'http://127.*nothing is fetched",
        ),
        ({"$ref": "other.json"}, r"ref = 'other.json': must point within this schema"),
        ({"$ref": "#/$defs/none"}, r"ref = '#/\$defs/none': must point within this schema"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_path(schema, message):
    with pytest.raises(InputError, match=message):
        JsonSchema(schema=schema)


def test_local_references_and_unknown_keywords_as_the_standard_has_them():
    tree = {
        "$defs": {"node": {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}}},
        "$ref": "#/$defs/node",
        "x-note": "ignored",
        "enum-like": {"$ref": "nowhere.json"},
    }
    assert matches({"a": {"b": {}}}, tree)
    assert not matches({"a": {"b": 1}}, tree)


def test_a_schema_may_name_another_draft():
    # in Draft 4 exclusiveMinimum is a flag beside minimum, since Draft 6 it is a number
    draft4 = "http://json-schema.org/draft-04/schema#"
    flag = {"$schema": draft4, "minimum": 0, "exclusiveMinimum": True}
    assert matches(1, flag)
    assert not matches(0, flag)
    with pytest.raises(InputError, match="exclusiveMinimum = True"):
        JsonSchema(schema={"minimum": 0, "exclusiveMinimum": True})
    assert matches(1.0, {"type": "integer"})


def test_a_row_may_carry_the_schema():
    meta = {"schema": {"type": "array", "prefixItems": [{"type": "integer"}], "items": False}}
    good = Sample(id="1", group="g", completion="[1]", meta=meta)
    assert JsonSchema()(good).status is Status.CORRECT
    assert JsonSchema()(Sample(id="1", group="g", completion="[1, 2]", meta=meta)).status == "wrong"
    with pytest.raises(InputError, match="schema = None: needs a table"):
        JsonSchema()(Sample(id="1", group="g", completion="[1]"))


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
