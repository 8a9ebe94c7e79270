from rlnorm.trainers.learner.prefix_tree import PrefixTree


def test_the_nodes_of_a_tree_are_its_distinct_prefixes(batch_of):
    # 5-7-8, 5-7-9 and 6-7-8: the second adds one node, the third three
    tree = PrefixTree.of(batch_of(((5, 7, 8), (5, 7, 9), (6, 7, 8))))
    assert tree.token.tolist() == [0, 1, 2, 5, 6, 7, 8]
    assert tree.node.tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 6]


def test_every_token_is_at_the_node_of_its_prefix(batch_of, rollouts):
    batch = batch_of(rollouts)
    tree = PrefixTree.of(batch)
    prefixes = [r[: i + 1] for r in rollouts for i in range(len(r))]
    assert len(tree.token) == len(set(prefixes)) == 21
    assert [prefixes[i] for i in tree.token[tree.node].tolist()] == prefixes
