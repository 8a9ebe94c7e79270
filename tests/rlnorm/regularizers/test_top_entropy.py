import torch

from rlnorm.regularizers.top_entropy import select_top_entropy, top_entropy


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_top_entropy_trains_only_the_top_share():
    entropies = vector(0.1, 0.5, 0.3, 0.2, 0.4)
    selected = select_top_entropy(entropies, share=0.4)
    # the 0.6 quantile of 0.1 ... 0.5 lies at place 2.4: 0.34
    assert selected.tolist() == [False, True, False, False, True]
    term = top_entropy(entropies, selected)
    assert term.where.tolist() == [True, False, True, True, False]
    assert select_top_entropy(entropies, share=1.0).all()
