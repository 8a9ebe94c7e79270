"""What a user reads when the cluster cannot do what was asked; no Ray is started."""

import socket

import pytest

from rlnorm.errors import InputError, one_line
from rlnorm.trainers.cluster.ray import Cluster, resource_table


def test_the_table_sets_asked_beside_present():
    table = resource_table(
        [{"CPU": 1.0, "GPU": 4.0}] * 2 + [{"CPU": 1.0}], {"10.0.0.1": {"CPU": 8.0, "GPU": 2.0}}
    )
    assert table.splitlines() == [
        "  asked 2 x      CPU 1  GPU 4",
        "  asked 1 x      CPU 1  GPU 0",
        "  node 10.0.0.1  CPU 8  GPU 2",
    ]


@pytest.mark.parametrize("address", ["somewhere", ":6379", "host:port"])
def test_an_address_needs_host_and_port(address):
    with pytest.raises(InputError, match=r"cluster.address = .* expected host:port"):
        Cluster.connect(address=address)


def test_nothing_answers():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=r"nothing answers there \(ConnectionRefusedError"):
            Cluster.connect(address=address, deadline_s=5.0)


def test_errors_become_one_line():
    assert one_line(ValueError("first\n   second")) == "ValueError: first second"
    assert one_line(ValueError("x" * 1000)) == "ValueError: " + "x" * 1000
