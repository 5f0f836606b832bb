"""Benchmarks: what the kernels cost, against their peers. `fastnet bench [OP ...]`, `python -m benchmarks.gpu`."""
