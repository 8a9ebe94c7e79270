from rlnorm.advantages.reinforce import reinforce


def test_reinforce_baselines(groups, rewards, masked, close):
    close(reinforce(rewards, groups), [-1, -2, -2, 3, 2, 0])
    close(reinforce(rewards, groups, baseline="batch"), [v - 25 / 6 for v in (1, 3, 0, 5, 7, 9)])
    close(reinforce(rewards, groups, baseline="none"), [1, 3, 0, 5, 7, 9])
    close(reinforce(masked, groups), [0.5, -2, -0.5, 0, 2, 0])
