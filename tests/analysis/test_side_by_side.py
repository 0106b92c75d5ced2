import threading

import pytest
import torch

from wamlab.analysis.side_by_side import side_by_side


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_two_run_at_a_time_in_order_each_with_one_thread(two_threads):
    both = threading.Barrier(2, timeout=10)  # one alone would wait in vain

    def square(x: int) -> tuple[int, int]:
        both.wait()
        return x * x, torch.get_num_threads()

    assert list(side_by_side(square, [3, 1, 2, 0])) == [(9, 1), (1, 1), (4, 1), (0, 1)]
    assert torch.get_num_threads() == 2


def test_one_at_a_time_keeps_to_the_caller(two_threads):
    assert (
        list(side_by_side(lambda _: (threading.current_thread(), torch.get_num_threads()), "ab", at_once=1))
        == [(threading.current_thread(), 2)] * 2
    )


def test_the_first_error_is_raised(two_threads):
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda x: 1 / x, [1, 0, 2]))
    assert torch.get_num_threads() == 2
