"""A variational autoencoder with reparameterisation, and a coupling flow as its prior."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class Coupling(nn.Module):
    """Affine coupling: half of the dimensions scale and shift the other half."""

    def __init__(self, dim, flip):
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(dim // 2, 8), nn.LeakyReLU(0.2), nn.Linear(8, dim))

    def forward(self, z):
        a, b = z.chunk(2, dim=1)
        if self.flip:
            a, b = b, a
        log_s, t = self.net(a).chunk(2, dim=1)
        log_s = torch.tanh(log_s)
        b = b * log_s.exp() + t
        return torch.cat([b, a] if self.flip else [a, b], dim=1), log_s.sum(dim=1)


class VAE(nn.Module):
    def __init__(self, n_in=12, hidden=10, latent=4):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(n_in, hidden), nn.SELU())
        self.fc_mu, self.fc_logvar = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Softplus(), nn.Linear(hidden, n_in))
        self.flow = nn.ModuleList([Coupling(latent, flip=bool(i % 2)) for i in range(2)])

    def reparameterize(self, mu, logvar, eps):
        std = torch.exp(0.5 * logvar)
        return eps.mul(std).add_(mu)

    def forward(self, x, eps):
        h = self.encoder(x)
        mu, logvar = self.fc_mu(h), self.fc_logvar(h).clamp(-5.0, 5.0)
        z = self.reparameterize(mu, logvar, eps)
        u, log_det = z, 0
        for layer in self.flow:
            u, ld = layer(u)
            log_det = log_det + ld
        log_prior = -0.5 * (u.pow(2) + math.log(2 * math.pi)).sum(dim=1) + log_det
        log_q = -0.5 * (eps.pow(2) + logvar + math.log(2 * math.pi)).sum(dim=1)
        return self.decoder(z).view_as(x), log_q - log_prior


def build():
    return VAE()


def batch(rng):
    x = torch.from_numpy(rng.random((6, 3, 4)).astype("float32"))
    return x, torch.from_numpy(rng.standard_normal((6, 4)).astype("float32"))


def loss_of(model, x, eps):
    recon, kl = model(x, eps)
    bce = F.binary_cross_entropy_with_logits(recon, x, reduction="sum") / x.size(0)
    return bce + kl.mean()
