import pytest

from rlnorm.options import options_of
from rlnorm.stages import data_of, resolve_stage


def double(rewards, group_index=None, *, factor: float = 2.0, mode: str = "a"):
    return rewards * factor


TABLE = {"double": double}
COLUMNS = {"rewards", "group_index"}


def test_data_by_name_and_options_keyword_only():
    stage = resolve_stage("estimator", {"name": "double", "factor": 3}, TABLE, COLUMNS)
    assert stage({"rewards": 5, "other": 1}) == 15
    assert data_of(double) == (("rewards",), ("group_index",))
    assert options_of(double) == {"factor": 2.0, "mode": "a"}
    with pytest.raises(ValueError, match=r"double: needs \['rewards'\], got \['other'\]"):
        stage({"other": 1})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dobule", r"estimator.name = 'dobule': choose from .*did you mean 'double'"),
        ({"factor": 1.0}, "estimator = .*needs one of"),
        (
            {"name": "double", "fator": 1.0},
            r"fator = 1\.0: double takes .*mean 'factor'",
        ),
        ({"name": "double", "factor": "1e-6"}, r"factor = '1e-6' \(str\): double takes float"),
        ({"name": "double", "factor": True}, r"factor = True \(bool\)"),
        ("no.such.module:fn", "name = 'no.such.module:fn': no module named 'no'"),
        ("nowhere/file.py:fn", "no such file /.*nowhere/file.py"),
        ("rlnorm.groups:nothing", "groups:nothing': no 'nothing' in it, only .*'group_mean'"),
        ("rlnorm.advantages:ESTIMATORS", "is not a function"),
    ],
)
def test_errors_say_where_what_and_what_is_allowed(spec, message):
    with pytest.raises(ValueError, match=message):
        resolve_stage("estimator", spec, TABLE, COLUMNS)


def test_a_parameter_that_is_no_column():
    def strange(rewards, group_idx, *, factor=1.0):
        return rewards

    with pytest.raises(ValueError, match=r"'group_idx' is not a data column.*'group_index'"):
        resolve_stage("estimator", "strange", {"strange": strange}, COLUMNS)
