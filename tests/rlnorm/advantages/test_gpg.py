from rlnorm.advantages.gpg import gpg


def test_gpg_scales_by_rollouts_over_rewarded_ones(groups, rewards, masked, close):
    # 6 rollouts, 5 with a reward; masked: 4 and 3
    close(gpg(rewards, groups, f_norm=2.0), [v * 0.6 for v in (-1, -2, -2, 3, 2, 0)])
    close(gpg(masked, groups), [v * 4 / 3 for v in (0.5, -2, -0.5, 0, 2, 0)])
