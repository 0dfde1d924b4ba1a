"""The angles that rotary position embedding turns by: once a micro-batch, in PyTorch."""

import torch
from torch import Tensor

from kernels.arguments import check, check_device, check_dtype


def rope_table(
    position_ids: Tensor, frequencies: Tensor, *, scale: float = 1.0, exact: bool = True
) -> tuple[Tensor, Tensor]:
    """(cos, sin) of every token's angles, fp32 [batch, sequence, head_size / 2], for `rope`.

    `position_ids`: int64 or int32 [batch, sequence], of this rank's tokens in order;
    `frequencies`: fp32 [head_size / 2], radians a position, or a token's own, [batch, sequence,
    head_size / 2]; `scale` multiplies both, and so what they rotate. Exact to fp32's last place at
    any position, as the angle is formed in fp64; without `exact` it is rounded to fp32, as
    transformers and most servers of models have it. Raises ValueError for a wrong shape, dtype or
    device.
    """
    check_dtype("position_ids", position_ids, (torch.int64, torch.int32))
    check_dtype("frequencies", frequencies, (torch.float32,))
    shape = list(position_ids.shape)
    check(position_ids.dim() == 2, f"position_ids: shape {shape}, not [batch, sequence]")
    check(
        frequencies.dim() == 1 or frequencies.shape[:-1] == position_ids.shape,
        f"frequencies: shape {list(frequencies.shape)}, not [head_size / 2] or {shape} before it",
    )
    check_device("frequencies", frequencies, "position_ids", position_ids)
    if exact:
        angles = position_ids.unsqueeze(-1) * frequencies.double()
    else:
        angles = position_ids.unsqueeze(-1).float() * frequencies
    cos, sin = angles.cos().float(), angles.sin().float()
    return (cos, sin) if scale == 1.0 else (cos * scale, sin * scale)


def rope_frequencies(
    head_size: int,
    theta: float,
    *,
    factor: float | None = None,
    low_frequency_factor: float = 1.0,
    high_frequency_factor: float = 4.0,
    original_context: int = 8192,
) -> Tensor:
    """Angle a position, in radians, of each channel pair; fp32 [head_size / 2], on the CPU.

    Base frequencies after Su et al. 2021. With `factor`, long wavelengths are stretched as Llama
    3.1 does it: all of `factor` for those that turn less than `low_frequency_factor` times in the
    original context, none for those above `high_frequency_factor`, smooth between. Raises
    ValueError for an odd `head_size`.
    """
    check(head_size > 0 and head_size % 2 == 0, f"head_size: {head_size} is not a positive even")
    exponents = torch.arange(0, head_size, 2, dtype=torch.float32) / head_size
    frequencies = 1.0 / theta**exponents
    if factor is None:
        return frequencies
    turns = original_context / (2 * torch.pi / frequencies)
    low, high = low_frequency_factor, high_frequency_factor
    keep = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return frequencies * keep + frequencies / factor * (1.0 - keep)
