# _cuda: the kernels compiled by nvcc.
