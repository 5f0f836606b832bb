"""An LSTM written with linear layers and gates, as in tutorials."""

import torch
from torch import nn


class LSTMCell(nn.Module):
    def __init__(self, n_in, n_hidden):
        super().__init__()
        self.ih = nn.Linear(n_in, 4 * n_hidden)
        self.hh = nn.Linear(n_hidden, 4 * n_hidden)

    def forward(self, x, state):
        h, c = state
        i, f, g, o = (self.ih(x) + self.hh(h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 5)
        self.cell = LSTMCell(5, 7)
        self.out = nn.Linear(7, 9)

    def forward(self, tokens):
        h = torch.zeros(tokens.size(0), 7)
        c = torch.zeros_like(h)
        outputs = []
        for t in range(tokens.size(1)):
            h, c = self.cell(self.embed(tokens[:, t]), (h, c))
            outputs.append(self.out(h))
        return torch.stack(outputs, dim=1)


def build():
    return Sequence()


def batch(rng):
    tokens = torch.from_numpy(rng.integers(0, 9, (4, 6)))
    return tokens[:, :-1], tokens[:, 1:]


def loss_of(model, x, y):
    logits = model(x)
    return nn.CrossEntropyLoss()(logits.reshape(-1, logits.size(-1)), y.reshape(-1))
