"""One update of Adam as a function: new values and moments, nothing changed in place."""

from torch import Tensor


def adam_step(
    value: Tensor,
    grad: Tensor,  # of the same shape, as are the moments
    moments: tuple[Tensor, Tensor],
    rate: float,
    update: int,
    betas: tuple[float, float] = (0.9, 0.999),
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The value and its moments after the `update`-th step, counted from 1, in the operation order of torch.optim.Adam.

    Kingma and Ba 2015, algorithm 1. The epsilon of 3DGS is so small that the size of a step does not depend on that of
    the gradients, which are tiny per Gaussian or voxel.

    Args:
        value: What is optimised, without gradient.
        grad: Its gradient.
        moments: Running means of gradient and squared gradient.
        rate: Step size.
        update: How many updates there are with this one.
        betas: Decay of the moments.
    """
    beta1, beta2 = betas
    first = moments[0].lerp(grad, 1 - beta1)
    second = (moments[1] * beta2).addcmul(grad, grad, value=1 - beta2)
    denominator = second.sqrt() / (1 - beta2**update) ** 0.5 + 1e-15
    return value.addcdiv(first, denominator, value=-rate / (1 - beta1**update)), (first, second)
