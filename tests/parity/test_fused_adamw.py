"""The optimizer that DeepSpeed is given steps as torch's does."""

from typing import Any

import pytest
import torch
from torch.nn import Parameter

from kernels import dispatch
from trainer.parallel.zero.adamw import FusedAdamW

OPTIONS: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8}


def groups() -> list[dict[str, Any]]:
    """Two groups with different decay, the same in every call."""
    generator = torch.Generator().manual_seed(7)
    shapes = [[(3, 4), (5,)], [(130,), (1,)]]
    return [
        {
            "params": [Parameter(torch.randn(shape, generator=generator)) for shape in group],
            "weight_decay": decay,
        }
        for group, decay in zip(shapes, (0.1, 0.0), strict=True)
    ]


@pytest.mark.parametrize("mode", ["reference", "triton"])
def test_every_group_steps_as_in_torch(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches one group's decay for all, and a step counted for a parameter without gradient."""
    monkeypatch.setattr(dispatch, "MODE", mode)
    ours = FusedAdamW(groups(), **OPTIONS)
    theirs = torch.optim.AdamW(groups(), **OPTIONS)
    assert ours.param_groups[1]["weight_decay"] == 0.0
    for step in range(3):
        for group, peer in zip(ours.param_groups, theirs.param_groups, strict=True):
            group["lr"] = peer["lr"] = 1e-2 / (step + 1)
            pairs = list(zip(group["params"], peer["params"], strict=True))
            for index, (parameter, other) in enumerate(pairs):
                absent = step == 1 and index == 1
                parameter.grad = None if absent else torch.randn_like(parameter)
                other.grad = None if absent else parameter.grad.clone()
        ours.step()
        theirs.step()
    for group, peer in zip(ours.param_groups, theirs.param_groups, strict=True):
        for parameter, other in zip(group["params"], peer["params"], strict=True):
            found, right = ours.state[parameter], theirs.state[other]
            assert found.keys() == right.keys()
            assert found["step"] == right["step"]
            for x, y in ((parameter, other), (found["exp_avg"], right["exp_avg"])):
                if mode == "reference":
                    assert torch.equal(x, y)
                else:
                    # Three steps of about ten fp32 operations each.
                    torch.testing.assert_close(x, y, rtol=3e-6, atol=3e-6)
