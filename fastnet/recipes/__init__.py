"""Recipes: each trains one architecture on real data with one command, ``fastnet train RECIPE``."""

from fastnet.recipes import cnn, gan, lstm, mlp, resnet, rnn, transformer

RECIPES = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "rnn": rnn,
    "lstm": lstm,
    "transformer": transformer,
    "gan": gan,
}
