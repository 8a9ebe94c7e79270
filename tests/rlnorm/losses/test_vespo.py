from math import exp


def test_vespo_shapes_the_rollouts_product_of_ratios(run, close):
    options = {"k_pos": 2.0, "lambda_pos": 3.0, "k_neg": 1.0, "lambda_neg": 0.5}
    values, gradient, _ = run("vespo", [2.0, 1.5, 2.0, 0.25], [1, 1, -1, -1], **options)
    # w = 3 and 0.5: exp(3) 3^2 exp(-9); exp(.5) .5 exp(-.25)
    up, down = 9 * exp(-6.0), 0.5 * exp(0.25)
    close(values, [2 * up, 2 * up, -2 * down, -2 * down])
    close(gradient, [-up, -up, down, down])
