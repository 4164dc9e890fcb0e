import pytest
import torch

from uptake.training.optimisers import optimiser


def test_sgd_has_the_momentum_of_nnunet():
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    made = optimiser([weight], "sgd", learning_rate=0.1, weight_decay=0.0)
    weight.grad = torch.tensor([1.0])
    made.step()
    assert weight.item() == pytest.approx(1.0 - 0.1 * 1.99)  # Nesterov: (1 + momentum) gradients at first


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.9, 0.999)])
def test_adamw_has_the_betas_it_is_given(betas):
    made = optimiser([torch.nn.Parameter(torch.ones(1))], "adamw", learning_rate=0.1, weight_decay=0.2, betas=betas)
    assert isinstance(made, torch.optim.AdamW)
    assert made.defaults["betas"] == betas and made.defaults["weight_decay"] == 0.2


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="optimiser 'lion' is unknown; choose one of sgd, adamw"):
        optimiser([], "lion", learning_rate=0.1, weight_decay=0.0)
