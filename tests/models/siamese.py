"""A siamese network with a custom autograd function, forward hooks, a triplet loss and a spectral-normalised head."""

import torch
from torch import nn
from torch.autograd import Function
from torch.nn.utils.parametrizations import spectral_norm


class ClampSTE(Function):
    """Clamp forward, straight-through backward."""

    @staticmethod
    def forward(ctx, x, limit):
        ctx.save_for_backward(x)
        ctx.limit = limit
        return x.clamp(-limit, limit)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        inside = (x.abs() <= 2 * ctx.limit).to(grad_output.dtype)
        return grad_output * inside, None


class Branch(nn.Module):
    def __init__(self, n_in=6, n_out=5):
        super().__init__()
        self.fc1 = nn.Linear(n_in, 8)
        self.act = nn.PReLU(8)
        self.fc2 = nn.Linear(8, n_out)
        self.scale = nn.Parameter(torch.randn(n_out))
        self.activations = {}
        self.fc1.register_forward_hook(self.save("fc1"))

    def save(self, name):
        def hook(module, inputs, output):
            self.activations[name] = output.detach()

        return hook

    def forward(self, x):
        x = self.fc2(self.act(self.fc1(x)))
        return ClampSTE.apply(x * self.scale, 1.0)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = Branch()
        self.critic = spectral_norm(nn.Linear(5, 1))

    def forward(self, *inputs):
        return [self.branch(x) for x in inputs]


def build():
    return Siamese()


def batch(rng):
    return tuple(torch.from_numpy(rng.standard_normal((7, 6)).astype("float32")) for _ in range(3))


def loss_of(model, anchor, positive, negative):
    a, p, n = model(anchor, positive, negative)
    triplet = nn.TripletMarginLoss(margin=0.5, swap=True)(a, p, n)
    cosine = nn.CosineEmbeddingLoss(margin=0.2)(a, n, -torch.ones(a.size(0)))
    assert model.branch.activations["fc1"].shape == (7, 8)
    return triplet + cosine + nn.functional.softplus(model.critic(a)).mean()
