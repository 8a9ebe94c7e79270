"""Shapes in signatures are checked while the tests run, in the packages named here.

A prefix `rlnorm` would cover every package, the systems code too, whose protocols beartype cannot
check.
"""

from jaxtyping import install_import_hook

CHECKED = (
    "advantages",
    "algorithms",
    "correction",
    "groups",
    "inputs",
    "kernels",
    "losses",
    "methods",
    "modulators",
    "named_algorithms",
    "regularizers",
    "sampling",
    "slots",
    "stages",
    "statistics",
    "testing",
    "tokens",
    "types",
)

# without the numeric tower beartype refuses 1 where float is declared
install_import_hook(
    [f"rlnorm.{name}" for name in CHECKED],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)
