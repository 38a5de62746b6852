"""Lane → partition: equal to Kafka's own murmur2, or lanes split over partitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core.lanes import murmur2, partition_of

# Known answers of Apache Kafka's own unit test of its Java implementation.
KNOWN = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("text", "expected"), KNOWN.items())
def test_the_hash_is_javas(text, expected):
    assert murmur2(text.encode()) == expected


@given(st.binary(max_size=64))
def test_the_hash_is_a_signed_32_bit_integer(data):
    assert -(2**31) <= murmur2(data) < 2**31


@given(st.text(max_size=40), st.integers(1, 1000))
def test_a_lane_is_in_one_existing_partition(lane, partitions):
    assert 0 <= partition_of(lane, partitions) < partitions


def test_the_sign_bit_is_dropped_not_negated():
    # Seven, because for a power of two the sign bit would not matter.
    assert partition_of("21", 7) == (2**31 - 973932308) % 7
    assert partition_of("21", 7) != -973932308 % 7


def test_a_realm_without_partitions_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        partition_of("lane", 0)
