"""The angles of rotary position embedding: exact, each token's own, and stretched."""

import math

import pytest
import torch

from kernels.rope_angles import rope_frequencies, rope_table
from tests.kernels.oracle import assert_close, tolerance


def test_angles_are_exact_at_a_million_positions(device: torch.device) -> None:
    """Catches angles formed in fp32, which are off by 0.03 rad there."""
    frequencies = rope_frequencies(128, 500_000.0).to(device)
    positions = torch.tensor([[0, 1, 999_999, 1_048_575]], device=device)
    cos, sin = rope_table(positions, frequencies)
    for row, position in enumerate(positions[0].tolist()):
        for channel, frequency in enumerate(frequencies.tolist()):
            angle = position * frequency
            assert abs(cos[0, row, channel].item() - math.cos(angle)) <= 2**-24
            assert abs(sin[0, row, channel].item() - math.sin(angle)) <= 2**-24
    rounded = (positions[..., None].float() * frequencies).cos()
    assert (rounded - cos).abs().max() > 1e-4  # the negative control
    assert torch.equal(rope_table(positions, frequencies, exact=False)[0], rounded)


def test_tokens_may_turn_at_their_own_speed_and_be_scaled(device: torch.device) -> None:
    """Catches frequencies of one token used for another, and a scale of the cosine alone."""
    positions = torch.tensor([[0, 1, 2], [0, 5, 6]], device=device)
    speeds = [rope_frequencies(4, theta).to(device) for theta in (100.0, 1000.0)]
    own = torch.stack([speeds[0].expand(3, -1), speeds[1].expand(3, -1)])
    for exact in (True, False):
        table = rope_table(positions, own, scale=1.5, exact=exact)
        for row, speed in enumerate(speeds):
            rows = rope_table(positions[row : row + 1], speed, exact=exact)
            for scaled, plain in zip(table, rows, strict=True):
                assert torch.equal(scaled[row], plain[0] * 1.5)
    with pytest.raises(ValueError, match=r"frequencies: shape \[1, 3, 2\]"):
        rope_table(positions, own[:1])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_packed_documents_and_shares_of_a_sequence_have_their_own_angles(
    device: torch.device, dtype: torch.dtype
) -> None:
    """Catches positions taken from the place in the sequence, or strides ignored."""
    whole = torch.tensor([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]], device=device, dtype=dtype)
    frequencies = rope_frequencies(4, 100.0).to(device)
    cos, _ = rope_table(whole, frequencies)
    share, _ = rope_table(whole[:, ::5], frequencies)
    transposed, _ = rope_table(whole.t().contiguous().t(), frequencies)
    assert torch.equal(cos[0, 0], cos[0, 3]) and not torch.equal(cos[0, 3], cos[1, 3])
    assert torch.equal(share, cos[:, [0, 5]]) and torch.equal(transposed, cos)


def test_llama_scaling_stretches_long_wavelengths_only() -> None:
    """Catches low and high mixed up; the figures are those of Llama 3.1 (factor 8)."""
    base = rope_frequencies(128, 500_000.0)
    scaled = rope_frequencies(
        128,
        500_000.0,
        factor=8.0,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
        original_context=8192,
    )
    wavelengths = 2 * torch.pi / base
    short, long = wavelengths < 8192 / 4, wavelengths > 8192
    assert torch.equal(scaled[short], base[short])
    assert_close("long", scaled[long], base[long].double() / 8, tolerance(torch.float32))
    between = ~short & ~long
    assert between.any()
    assert ((scaled < base) & (scaled > base / 8))[between].all()
    assert (scaled.diff() < 0).all()


def test_bad_arguments_are_named() -> None:
    """Catches a mistake that would give angles all the same."""
    with pytest.raises(ValueError, match="head_size: 3"):
        rope_frequencies(3, 1e4)
    with pytest.raises(ValueError, match="position_ids: dtype float32"):
        rope_table(torch.zeros(1, 1), torch.ones(2))
    with pytest.raises(ValueError, match="frequencies: dtype float64"):
        rope_table(torch.zeros(1, 1, dtype=torch.int64), torch.ones(2).double())
    with pytest.raises(ValueError, match="position_ids: shape"):
        rope_table(torch.zeros(1, dtype=torch.int64), torch.ones(2))
