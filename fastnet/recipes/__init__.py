"""Recipes: each trains one architecture on real data with one command, ``fastnet train RECIPE``."""

from fastnet.recipes import cnn, mlp

RECIPES = {"cnn": cnn, "mlp": mlp}
