"""Mixture of experts: routing with topk, index_add-free dispatch by masks, a load-balancing loss, embeddings tied."""

import torch
from torch import nn
from torch.nn import functional as F


class Expert(nn.Sequential):
    def __init__(self, dim, hidden):
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


class MoE(nn.Module):
    def __init__(self, dim, n_experts=4, k=2):
        super().__init__()
        self.k = k
        self.gate = nn.Linear(dim, n_experts, bias=False)
        self.experts = nn.ModuleList(Expert(dim, 2 * dim) for _ in range(n_experts))
        self.balance = None

    def forward(self, x):
        shape = x.shape
        x = x.view(-1, shape[-1])
        probs = self.gate(x).softmax(dim=-1)
        weight, chosen = torch.topk(probs, self.k, dim=-1)
        weight = weight / weight.sum(dim=-1, keepdim=True)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == i)
            if token.numel() == 0:
                continue
            out[token] = out[token] + weight[token, slot, None] * expert(x[token])
        share = F.one_hot(chosen, len(self.experts)).float().mean(dim=(0, 1))
        self.balance = len(self.experts) * torch.sum(share * probs.mean(dim=0))
        return out.view(*shape)


class Model(nn.Module):
    def __init__(self, vocab=11, dim=8):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim, padding_idx=0)
        self.norm = nn.LayerNorm(dim)
        self.moe = MoE(dim)
        self.head = nn.Linear(dim, vocab, bias=False)
        self.head.weight = self.embed.weight  # tied

    def forward(self, ids):
        x = self.embed(ids)
        x = x + self.moe(self.norm(x))
        return self.head(x)


def build():
    return Model()


def batch(rng):
    ids = torch.from_numpy(rng.integers(0, 11, (3, 7)))
    return ids[:, :-1], ids[:, 1:]


def loss_of(model, x, y):
    logits = model(x)
    loss = F.cross_entropy(logits.reshape(-1, logits.size(-1)), y.reshape(-1), ignore_index=0)
    return loss + 0.01 * model.moe.balance
