"""What one step of each kind of stage minimizes. An objective is a module whose parameters are the
student's, so that PyTorch's DistributedDataParallel can wrap it; forward returns (loss, figures)."""

import json
import pathlib

import torch
from torch import nn

from . import layouts, losses
from .config import ATTENTION
from .errors import DataError


def use_mamba(student, teacher, layers):
    """Of the student's Mamba layers only `layers` mix by Mamba; the others by what they replace."""
    for index, kind in enumerate(student.config.layers):
        layer = student.model.layers[index]
        if kind != ATTENTION:
            # Past nn.Module's registration: it is the teacher's and no part of the checkpoint.
            layer.__dict__["self_attn"] = teacher.model.layers[index].self_attn
            layer.uses_mamba = index in layers


class Align(nn.Module):
    """Every mixer for itself: from the teacher's input of its layer to the teacher's attention."""

    def __init__(self, student, teacher):
        super().__init__()
        self.student, self._teacher = student, [teacher]
        self._layers = [i for i, kind in enumerate(student.config.layers) if kind != ATTENTION]

    def forward(self, ids, targets, progress):
        teacher, errors = self._teacher[0], []
        with torch.no_grad():
            rotary = tuple(t[:ids.shape[1]] for t in teacher.rotary(ids.shape[1]))
            x = teacher.model.embed_tokens(ids)
        for index, layer in enumerate(teacher.model.layers):
            with torch.no_grad():
                after = teacher.run_layer(layer, x, rotary)
                if index in self._layers:
                    mixed = layer.self_attn(layer.input_layernorm(x), rotary)
            if index in self._layers:
                own = self.student.model.layers[index]
                errors.append(losses.normalized_error(
                    own.mamba(own.input_layernorm(x), rotary), mixed))
            x = after
        loss = torch.stack(errors).mean()
        return loss, {"error": loss.detach()}


class Distill(nn.Module):
    """KL against the teacher and cross-entropy on the text. `groups`: layers that turn to Mamba
    one group after the other, in equal parts of the stage."""

    def __init__(self, student, teacher, stage, groups, piece=losses._piece):
        super().__init__()
        self.student, self._teacher, self._piece = student, [teacher], piece
        self._weights = stage["kl_weight"], stage["ce_weight"]
        self._groups, self._active = groups, None
        self.token_map = None  # head row -> id, of a draft

    def _activate(self, progress):
        if self._groups is None:
            return
        count = min(int(progress * len(self._groups)) + 1, len(self._groups))
        if count != self._active:
            use_mamba(self.student, self._teacher[0], sum(self._groups[:count], []))
            self._active = count

    def forward(self, ids, targets, progress):
        self._activate(progress)
        teacher = self._teacher[0]
        with torch.no_grad():
            wanted = teacher.hidden(ids).flatten(0, 1)
        hidden = self.student.hidden(ids).flatten(0, 1)
        targets = targets.flatten()
        if self.token_map is not None:
            rows = torch.full((teacher.config.vocab_size,), -1, device=ids.device)
            rows[self.token_map] = torch.arange(len(self.token_map), device=ids.device)
            targets = rows[targets]
        loss, kl, ce = losses.head_loss(hidden, self.student.head_weight, wanted,
                                        teacher.head_weight, targets, *self._weights,
                                        token_map=self.token_map, piece=self._piece)
        return loss, {"kl": kl.detach(), "ce": ce.detach()}


def groups_of(kind, student):
    """In which groups a stage of this kind turns the student's Mamba layers on; None: all are."""
    layers = [i for i, k in enumerate(student.config.layers) if k != ATTENTION]
    if kind == "stepwise":
        return [[i] for i in layouts.stepwise_order(layers)]
    if kind == "progressive":  # a quarter of the stack first
        first = [i for i in layers if i % 4 == 0]
        return [group for group in (first, [i for i in layers if i not in first]) if group]
    return [layers] if layers else None


def read_preferences(path):
    """[(prompt ids, chosen ids, rejected ids)] of a file of JSON lines."""
    pairs = []
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            entry = json.loads(line)
            pair = tuple([int(i) for i in entry[key]] for key in ("prompt", "chosen", "rejected"))
            if not all(pair):
                raise ValueError("an empty list")
            pairs.append(pair)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: line {len(pairs) + 1}: {error!r}") from error
    if not pairs:
        raise DataError(f"{path}: holds no pair")
    return pairs


class Dpo(nn.Module):
    """Direct preference optimization; the reference is the student as the stage found it."""

    def __init__(self, student, pairs, stage, device):
        super().__init__()
        self.student, self._beta = student, stage["beta"]
        self._size, self._length = stage["batch_size"], stage["sequence_length"]
        self._pairs, self._device = pairs, device
        self._reference = self.scores()

    def scores(self):
        """Log-probabilities of every pair's (chosen, rejected) under the student as it is now."""
        with torch.no_grad():
            scores = [self._scores(range(first, min(first + self._size, len(self._pairs))))
                      for first in range(0, len(self._pairs), self._size)]
        return torch.cat([s[0] for s in scores]), torch.cat([s[1] for s in scores])

    def margin(self):
        """The mean margin of all pairs: how much more than the reference it prefers the chosen."""
        chosen, rejected = self.scores()
        return losses.dpo_loss(chosen, rejected, *self._reference, self._beta)[1].item()

    def _side(self, numbers, side):
        rows = [self._pairs[i][0] + self._pairs[i][side] for i in numbers]
        width = min(max(map(len, rows)), self._length)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width)
        for row, (number, tokens) in enumerate(zip(numbers, rows)):
            tokens = tokens[:width]
            ids[row, :len(tokens)] = torch.tensor(tokens)
            mask[row, len(self._pairs[number][0]):len(tokens)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        return losses.sequence_log_probability(self.student(ids[:, :-1]), ids[:, 1:], mask[:, 1:])

    def _scores(self, numbers):
        return self._side(numbers, 1), self._side(numbers, 2)

    def batch(self, seed, step):
        generator = torch.Generator().manual_seed(seed * 104729 + step)
        return torch.randint(len(self._pairs), (self._size,), generator=generator).tolist()

    def forward(self, numbers, targets, progress):
        chosen, rejected = self._scores(numbers)
        loss, margin = losses.dpo_loss(chosen, rejected, self._reference[0][numbers],
                                       self._reference[1][numbers], self._beta)
        return loss, {"margin": margin.detach()}
