"""Training windows out of packed tokens, in an order that depends on the seed and the step alone."""

import numpy as np
import torch

from . import token_file
from .errors import DataError


class Batches:
    """Windows of `length` + 1 tokens: what is read and, shifted by one, what follows."""

    def __init__(self, paths, vocab_size, device):
        once = {path: token_file.read(path, vocab_size) for path in dict.fromkeys(paths)}
        self.distinct = sum(map(len, once.values()))
        ids = np.concatenate([once[path] for path in paths])
        self._ids = torch.from_numpy(ids.astype(np.int32)).to(device)
        self._orders = {}

    def __len__(self):
        return len(self._ids)

    def _order(self, seed, epoch, windows):
        key = (seed, epoch, windows)
        if key not in self._orders:
            generator = torch.Generator().manual_seed(seed * 7919 + epoch)
            self._orders = {key: torch.randperm(windows, generator=generator)}
        return self._orders[key]

    def get(self, seed, step, size, length, rank=0, world=1):
        """(ids, targets) [size, length] of a step; ranks take different windows."""
        windows = (len(self._ids) - 1) // length
        if windows < 1:
            raise DataError(f"data: {len(self._ids)} tokens are no window of {length + 1}")
        first = (step * world + rank) * size
        numbers = [int(self._order(seed, i // windows, windows)[i % windows])
                   for i in range(first, first + size)]
        starts = torch.tensor(numbers, device=self._ids.device) * length
        rows = self._ids[starts[:, None] + torch.arange(length + 1, device=starts.device)].long()
        return rows[:, :-1], rows[:, 1:]
