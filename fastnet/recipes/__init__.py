"""Recipes: each trains one architecture on real data with one command, ``fastnet train RECIPE``."""

from fastnet.recipes import mlp

RECIPES = {"mlp": mlp}
