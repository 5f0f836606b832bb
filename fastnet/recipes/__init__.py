"""Recipes: each trains one architecture on real data with one command, ``fastnet train RECIPE``."""

from fastnet.recipes import cnn, mlp, transformer

RECIPES = {"mlp": mlp, "cnn": cnn, "transformer": transformer}
