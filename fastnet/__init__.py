"""Neural networks trained with handwritten CUDA kernels behind an API that reads like PyTorch's."""
