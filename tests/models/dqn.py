"""A DQN update: duelling heads, a target network by load_state_dict, a Huber loss on gathered values."""

import copy

import torch
import torch.nn as nn


class DuellingQ(nn.Module):
    def __init__(self, n_obs=5, n_actions=3, hidden=(16, 16)):
        super().__init__()
        layers, last = [], n_obs
        for width in hidden:
            layers += [nn.Linear(last, width), nn.ReLU(inplace=True)]
            last = width
        self.body = nn.Sequential(*layers)
        self.value = nn.Linear(last, 1)
        self.advantage = nn.Linear(last, n_actions)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.constant_(module.bias, 0.0)

    def forward(self, obs):
        h = self.body(obs)
        advantage = self.advantage(h)
        return self.value(h) + advantage - advantage.mean(dim=1, keepdim=True)


def build():
    return DuellingQ()


def batch(rng):
    obs, following = (torch.from_numpy(rng.standard_normal((9, 5)).astype("float32")) for _ in range(2))
    action = torch.from_numpy(rng.integers(0, 3, (9, 1)))
    reward = torch.from_numpy(rng.standard_normal(9).astype("float32"))
    return obs, action, reward, following, torch.from_numpy(rng.random(9) < 0.2)


def loss_of(model, obs, action, reward, following, done):
    target_net = copy.deepcopy(model)
    target_net.load_state_dict(model.state_dict())
    for p in target_net.parameters():
        p.requires_grad = False
    target_net.eval()
    q = model(obs).gather(1, action).squeeze(1)
    with torch.no_grad():
        best = model(following).argmax(dim=1, keepdim=True)
        future = target_net(following).gather(1, best).squeeze(1)
        target = reward + 0.9 * future * (~done).float()
    return nn.SmoothL1Loss()(q, target)
