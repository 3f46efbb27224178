"""Nearest neighbours among points."""

import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.types import check_shapes


def nearest_neighbours(
    points: Tensor,  # [P, 3]
    queries: Tensor,  # [Q, 3]
    k: int,
) -> tuple[Tensor, Tensor]:
    """The k points nearest to each query, nearest first; a query that is one of the points finds itself first.

    Returns:
        distances [Q, k] (dtype and device of `queries`) and indices into `points` [Q, k] (int64). No gradient.

    Raises:
        InvalidInput: if there are fewer than k points.
    """
    from scipy.spatial import KDTree  # Here and not above: it would double the import time of the package.

    sizes = check_shapes(points=(points, "P 3"), queries=(queries, "Q 3"))
    if not 1 <= k <= sizes["P"]:
        raise InvalidInput(f"nearest_neighbours: k = {k} of {sizes['P']} points, expected 1 <= k <= number of points.")
    tree = KDTree(points.detach().cpu().double().numpy())
    found = tree.query(queries.detach().cpu().double().numpy(), k=k, workers=torch.get_num_threads())
    distances, indices = (torch.as_tensor(a).reshape(sizes["Q"], k) for a in found)  # scipy drops the axis of k = 1.
    return distances.to(queries), indices.to(device=queries.device, dtype=torch.int64)
