"""``torch.functional``: functions of tensors by an older path. They are those of ``fastnet`` itself."""

import fastnet as _fastnet

_NAMES = (
    "atleast_1d atleast_2d atleast_3d block_diag broadcast_shapes broadcast_tensors cartesian_prod cdist chain_matmul "
    "einsum lu meshgrid norm split tensordot unique unique_consecutive unravel_index"
)
for _name in _NAMES.split():
    globals()[_name] = getattr(_fastnet, _name)
