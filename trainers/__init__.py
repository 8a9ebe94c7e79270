"""The loop and its parts: config, rollout pools, learners, weight sync, checkpoints, evaluation."""
