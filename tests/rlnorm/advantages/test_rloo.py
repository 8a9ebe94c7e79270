from rlnorm.advantages.rloo import rloo


def test_rloo_is_the_mean_of_the_others(groups, rewards, masked, close):
    # 1 - 2.5, 3 - 7, 0 - 3, 5 - 0.5, 7 - 3
    close(rloo(rewards, groups), [-1.5, -4, -3, 4.5, 4, 0])
    close(rloo(masked, groups), [1, -4, -1, 0, 4, 0])
