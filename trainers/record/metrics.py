"""Every metric of a run with its unit and meaning; `docs/metrics.md` is generated from this table.

A placeholder in angle brackets stands for a name from the config: a reward component, a source of
training prompts, a benchmark, a regularizer, or k, the value of `eval_samples`.
"""

import re
from collections.abc import Iterable
from functools import cache

_TABLE = """
step | steps | RL steps taken; 0 is the evaluation before training
lr | 1 | learning rate of this step
loss | 1 | policy loss plus regularizers, mean over the optimizer steps
grad_norm | 1 | global 2-norm of the gradient before clipping, mean over optimizer steps
tokens | tokens | sampled tokens of the rollouts that train
reward/mean | reward | weighted sum of the components that apply, mean over rollouts that train
reward/<component> | reward | the component's mean over the rollouts that train
reward/<component>/mean | reward | mean over all its scores of the step, dropped groups included
reward/<component>/std | reward | population standard deviation of the same scores
reward/<component>/valid_frac | share | scores that apply and did not fail, of those that apply
reward/<component>/<status>_frac | share | scores with this status; not_applicable: of all scores
reward/<component>/seconds_p50 | s | median time of one score
reward/<component>/seconds_p99 | s | 99th percentile of the time of one score
group/not_applicable | rollouts | rollouts that no reward is for; they do not train
reward/<component>/disagreement | share | samples on which a judge and its rule differ
source/<source>/prompts | prompts | prompts that train, of one of several sources in `data.train`
source/<source>/reward_mean | reward | `reward/mean` over the rollouts of this source
completion/tokens_mean | tokens | mean length of a completion, end token included
completion/truncated_frac | share | completions ended by `rollout.max_tokens`
completion/most_common_frac | share | rollouts that train whose completion is the most common one
group/zero_signal_frac | share | groups in which every advantage is 0, so that nothing is learned
group/dropped | groups | groups that resampling replaced (dynamic sampling)
group/rounds | rounds | rounds of sampling that the step took
staleness/max | publishes | largest age of a group's weights when it was trained on
staleness/dropped_groups | groups | groups dropped because they were too old
policy/version | steps | optimizer steps taken, skipped ones not counted
policy/entropy | nats per token | entropy of the policy over the full vocabulary
policy/policy_loss | 1 | the loss without its regularizers
policy/<regularizer>_loss | 1 | what this regularizer adds to the loss
policy/clip_frac | share | tokens whose ratio is clipped and which give no gradient
policy/clip_frac_low | share | tokens clipped at the dual clip's bound
policy/approx_kl | nats per token | old_logprobs minus logprobs, mean over tokens (k1)
policy/abs_log_ratio | nats per token | absolute log ratio of new to old weights
policy/kl_sampler | nats per token | KL of sampler and learner (k3), first optimizer step
policy/logprob_gap_mean | nats per token | |sampler - learner|, first optimizer step
policy/correction_mean | 1 | mean weight of the sampler/learner correction
policy/correction_dropped_frac | share | tokens that the correction masks
policy/selected_frac | share | tokens that Lp-Reg, Clip-Cov, KL-Cov or top entropy select
learner/skipped_steps | steps | optimizer steps skipped for a gradient that is not finite
sync/parity_gap | nats | mean |learner - sampler| over the probe's tokens, after the publish
time/step_s | s | the step without its evaluation and its checkpoint
time/rollout_s | s | sampling
time/reward_s | s | scoring
time/learn_s | s | scoring pass, advantages and optimizer steps
time/sync_s | s | publishing the new weights, probe included
time/eval_s | s | evaluating all benchmarks
throughput/tokens_per_s | tokens/s | `tokens` over `time/step_s`
eval/<benchmark>/greedy | share | problems solved at temperature 0
eval/<benchmark>/avg@k | share | correct completions among the k sampled for each problem
eval/<benchmark>/avg@<k> | share | the same, with the number in its name
eval/<benchmark>/pass@k | share | problems that at least one of k samples solves
eval/<benchmark>/pass@<k> | share | the same, with the number in its name
eval/<benchmark>/tokens_mean | tokens | mean length of a sampled completion
eval/<benchmark>/failed_frac | share | completions without a verdict, which are not counted above
"""
METRICS = {
    name: (unit, meaning)
    for name, unit, meaning in (line.split(" | ") for line in _TABLE.strip().splitlines())
}
"""Name -> (unit, meaning), in the order of the page."""


def undocumented(names: Iterable[str]) -> list[str]:
    """The names that no row of METRICS covers."""
    return [name for name in names if not _pattern().fullmatch(name)]


@cache
def _pattern() -> re.Pattern[str]:
    # the name of a user's regularizer may be a path
    texts = [re.escape(name).replace("<regularizer>", ".+") for name in METRICS]
    return re.compile("|".join(re.sub(r"<[^>]*>", "[^/]+", text) for text in texts))
