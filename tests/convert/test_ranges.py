"""The four ways to choose a range, against what they are defined to be."""

import numpy as np
import pytest

from convert.test_entropy import integrated
from polyspike.convert import Method
from polyspike.convert.ranges import choose_range
from polyspike.network import CountRange

UNSIGNED = CountRange(0, 15, 4)
SIGNED = CountRange(8, 7, 4)


def exponential(number=20000):
    return np.random.default_rng(0).exponential(1.0, number).astype(np.float32)


def quantize(values, span, counts, timesteps=1):
    step = span / counts.n_pos / timesteps
    code = np.clip(np.floor(values / step + 0.5), -counts.n_neg * timesteps, counts.n_pos * timesteps)
    return code, values - code * step


def information(values, span, counts):
    code, error = quantize(values, span, counts)
    shares = np.bincount(code.astype(int), minlength=counts.n_pos + 1) / len(code)
    return integrated(shares, float((error**2).mean()) ** 0.5 / (span / counts.n_pos))


def test_max_and_percentile():
    values = exponential()
    assert choose_range(values, UNSIGNED, rectified=True, method=Method.MAX) == values.max()
    got = choose_range(values, UNSIGNED, rectified=True, method=Method.PERCENTILE, percentile=90)
    assert got == pytest.approx(np.percentile(values, 90))


def test_mse_is_the_least_squared_error():
    values = exponential()
    got = choose_range(values, UNSIGNED, rectified=True, method=Method.MSE)
    reached = (quantize(values, got, UNSIGNED)[1] ** 2).mean()
    best = min((quantize(values, span, UNSIGNED)[1] ** 2).mean() for span in np.linspace(0.5, values.max(), 300))
    assert reached <= best * 1.01


def test_entropy_is_the_most_information():
    values = exponential()
    got = information(values, choose_range(values, UNSIGNED, rectified=True), UNSIGNED)
    best = max(information(values, span, UNSIGNED) for span in np.linspace(0.5, values.max(), 60))
    assert got >= best - 0.01


def test_entropy_ignores_a_single_outlier():
    values = np.append(exponential(), np.float32(40))
    assert choose_range(values, UNSIGNED, rectified=True) < 20
    assert choose_range(values, UNSIGNED, rectified=True, method=Method.MAX) == 40


@pytest.mark.parametrize("method", Method)
def test_uniform_activations_are_not_clipped(method):
    values = np.random.default_rng(1).uniform(0, 3, 20000).astype(np.float32)
    assert choose_range(values, UNSIGNED, rectified=True, method=method) == pytest.approx(3, rel=0.06)


@pytest.mark.parametrize("method", Method)
def test_negative_sums_do_not_matter_behind_a_relu(method):
    values = exponential(4000)
    mixed = np.concatenate([values, -5 * values])
    alone = choose_range(values, UNSIGNED, rectified=True, method=method)
    assert choose_range(mixed, UNSIGNED, rectified=True, method=method) == alone


@pytest.mark.parametrize("method", Method)
def test_signed_ranges_cover_both_polarities(method):
    values = np.random.default_rng(2).uniform(-4, 1, 20000).astype(np.float32)
    # 8 steps below zero are -4: a step of about 1/2, so 7 steps are 3.5.
    assert choose_range(values, SIGNED, rectified=False, method=method) == pytest.approx(3.5, rel=0.1)


def test_more_timesteps_clip_less():
    values = exponential()
    spans = [choose_range(values, UNSIGNED, rectified=True, timesteps=t) for t in (1, 4)]
    assert spans[1] > spans[0]


def test_silent_layer():
    assert choose_range(-exponential(10), UNSIGNED, rectified=True) == 1.0
