"""Datasets, samplers and the loader that makes batches of them, by torch.utils.data's names."""

import sys
from types import ModuleType

from fastnet.utils.data import collate
from fastnet.utils.data import loader as dataloader
from fastnet.utils.data.collate import default_collate, default_convert
from fastnet.utils.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from fastnet.utils.data.device import DevicePrefetcher
from fastnet.utils.data.distributed import DistributedSampler
from fastnet.utils.data.loader import DataLoader
from fastnet.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from fastnet.utils.data.worker import WorkerInfo, get_worker_info

__all__ = [
    "BatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DevicePrefetcher",
    "DistributedSampler",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "WorkerInfo",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "random_split",
]

# torch.utils.data's paths, for files that import from them.
sys.modules[f"{__name__}.dataloader"] = dataloader
_utils = ModuleType(f"{__name__}._utils", "Where torch.utils.data has what collates.")
_utils.collate = collate  # type: ignore[attr-defined]
sys.modules[f"{__name__}._utils"] = _utils
sys.modules[f"{__name__}._utils.collate"] = collate
