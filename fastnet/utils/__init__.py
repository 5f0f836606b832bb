"""Data loading, cost accounting, and what this machine has."""
