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
    "trainers.advantages",
    "trainers.cluster.buckets",
    "trainers.compare.results",
    "trainers.learner.attention",
    "trainers.learner.core",
    "trainers.learner.embedded",
    "trainers.learner.optimizer",
    "trainers.learner.packing",
    "trainers.learner.prefix_tree",
    "trainers.learner.weight_units",
    "trainers.record.rollouts",
    "trainers.rollout.cpu_engine.binding",
    "trainers.rollout.engine",
    "trainers.rollout.sampling",
    "trainers.rollout.torch_engine",
    "trainers.scoring",
    "trainers.sync",
    "types",
)

# without the numeric tower beartype refuses 1 where float is declared
install_import_hook(
    [f"rlnorm.{name}" for name in CHECKED],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)
