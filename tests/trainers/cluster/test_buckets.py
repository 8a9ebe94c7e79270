"""Weights on the wire: what goes in comes out bit for bit, and a changed bit shows."""

import pytest
import torch

from rlnorm.trainers.cluster.buckets import (
    bucket_digests,
    digest,
    pack_buckets,
    sample_names,
    shapes_of,
    unpack,
)

KIB = 1 / 1024


def weights() -> list[tuple[str, torch.Tensor]]:
    torch.manual_seed(0)
    return [
        ("a", torch.randn(8, 16)),  # 512 bytes
        ("b", torch.randn(100)),  # 400 bytes
        ("c", torch.randn(3, 5, 7).bfloat16()),  # 210 bytes, 922 together with a whole a
        ("d", torch.randn(700)),  # 2800 bytes: more than a bucket
        ("e", torch.tensor(2.5)),
    ]


def test_buckets_hold_whole_tensors_up_to_their_limit():
    buckets = list(pack_buckets(weights(), bucket_mb=KIB))
    assert [[name for name, _, _ in b.entries] for b in buckets] == [
        ["a", "b"],
        ["c"],
        ["d"],
        ["e"],
    ]
    assert [b.data.nbytes for b in buckets] == [912, 210, 2800, 4]


def test_unpack_is_the_inverse_of_pack():
    given = dict(weights())
    back = {n: w for b in pack_buckets(given.items(), bucket_mb=KIB) for n, w in unpack(b)}
    assert list(back) == list(given)
    for name, tensor in given.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


def test_weights_are_cast_to_the_dtype_of_the_engines():
    (bucket,) = pack_buckets(
        [("a", torch.tensor([1.0, 1.00390625]))], bucket_mb=1, dtype=torch.bfloat16
    )
    ((_, back),) = unpack(bucket)
    # bfloat16 has 8 significant bits: 1 + 2**-8 is a tie and rounds to the even 1
    assert back.dtype == torch.bfloat16
    assert back.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_never_leave(bad):
    with pytest.raises(FloatingPointError, match="weights: b holds NaN or infinity"):
        list(pack_buckets([("a", torch.ones(2)), ("b", torch.tensor([1.0, bad]))], bucket_mb=1))


def test_a_digest_sees_one_bit_and_not_the_layout():
    tensor = torch.arange(6.0).view(2, 3)
    nudged = tensor.clone()
    nudged[1, 2] = torch.nextafter(nudged[1, 2], torch.tensor(9.0))
    assert digest(tensor) != digest(nudged)
    assert digest(tensor.t().contiguous().t()) == digest(tensor)


def test_digests_of_buckets_are_those_of_the_tensors():
    buckets = list(pack_buckets(weights(), bucket_mb=KIB))
    assert bucket_digests(buckets, ["a", "d"]) == {
        n: digest(dict(weights())[n]) for n in ("a", "d")
    }
    assert shapes_of(buckets)["c"] == (3, 5, 7)


def test_every_tensor_has_its_turn_to_be_checked():
    names = [f"layer.{i}" for i in range(40)]
    chosen = [sample_names(names, version, count=8) for version in range(40)]
    assert {n for one in chosen for n in one} == set(names)
    assert all(8 <= len(one) <= 10 for one in chosen)
    assert sample_names(list(reversed(names)), 3) == sample_names(names, 3)
