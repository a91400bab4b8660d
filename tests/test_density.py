import math

import pytest
import torch

from promptplus.density import TokenDensity
from promptplus.errors import SettingsError


def test_one_dimension_by_hand() -> None:
    density = TokenDensity(torch.tensor([[0.0], [2.0]], dtype=torch.float64), 1.0)
    expected = (math.exp(0) + math.exp(-2)) / 2 / math.sqrt(2 * math.pi)
    assert float(density.log_density(torch.zeros(1))) == pytest.approx(math.log(expected), rel=1e-12)


def test_it_integrates_to_one() -> None:
    density = TokenDensity.fit(torch.randn(20, 1, generator=torch.Generator().manual_seed(0)))
    grid = torch.linspace(-12, 12, 20001, dtype=torch.float64)[:, None]
    assert float(density.log_density(grid).exp().sum() * (grid[1] - grid[0])) == pytest.approx(1, abs=1e-6)


def test_the_bandwidth_is_the_likeliest() -> None:
    density = TokenDensity.fit(torch.randn(60, 8, generator=torch.Generator().manual_seed(1)))
    best = float(density.of_words().mean())
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert float(TokenDensity(density.points, density.bandwidth * factor).of_words().mean()) < best


def test_leaving_one_out_is_leaving_it_out() -> None:
    density = TokenDensity.fit(torch.randn(10, 4, generator=torch.Generator().manual_seed(2)))
    for i, value in enumerate(density.of_words()):
        others = torch.cat([density.points[:i], density.points[i + 1 :]])
        alone = TokenDensity(others, density.bandwidth).log_density(density.points[i])
        assert float(value) == pytest.approx(float(alone), rel=1e-12)


def test_the_gradient_is_right() -> None:
    density = TokenDensity.fit(torch.randn(30, 6, generator=torch.Generator().manual_seed(3)))
    rows = torch.randn(3, 2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(density.log_density, (rows,))


def test_nothing_overflows_far_away_or_in_many_dimensions() -> None:
    density = TokenDensity.fit(torch.randn(50, 768, generator=torch.Generator().manual_seed(4)))
    row = torch.full((768,), 1e3, requires_grad=True)
    value = density.log_density(row)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(row.grad).all()
    assert value < density.of_words().min()


@pytest.mark.parametrize("shape", [(2, 4), (5,), (0, 3)])
def test_too_few_points_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match="at least three"):
        TokenDensity.fit(torch.zeros(shape))
