"""A classifier as people write them for PyTorch."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, width, p):
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        self.drop = nn.Dropout(p)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x + self.fc2(self.drop(F.relu(self.fc1(x))))


class Classifier(nn.Module):
    def __init__(self, n_in=12, width=16, n_out=4, depth=3, p=0.0):
        super().__init__()
        self.inp = nn.Linear(n_in, width)
        self.blocks = nn.ModuleList([Block(width, p) for _ in range(depth)])
        self.heads = nn.ModuleDict({"main": nn.Linear(width, n_out), "aux": nn.Linear(width, 1)})
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, x):
        x = x.view(x.size(0), -1)
        x = torch.tanh(self.inp(x))
        for block in self.blocks:
            x = block(x)
        return self.heads["main"](x), self.heads["aux"](x).squeeze(-1)


def build():
    return Classifier()


def batch(rng):
    return torch.from_numpy(rng.standard_normal((8, 3, 4)).astype("float32")), torch.from_numpy(rng.integers(0, 4, 8))


def loss_of(model, x, y):
    logits, aux = model(x)
    return (
        F.cross_entropy(logits, y, label_smoothing=0.05)
        + 0.1 * F.mse_loss(aux, y.float())
        + 1e-3 * sum(p.pow(2).sum() for p in model.parameters())
    )
