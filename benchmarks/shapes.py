"""Problem sizes, as data. Small ones finish in seconds on a CPU; large ones are for a GPU."""

MATMUL = {  # (M, N, K)
    "small": [(64, 64, 64), (256, 256, 256), (32, 128, 64)],
    "square": [(512,) * 3, (1024,) * 3, (2048,) * 3, (4096,) * 3, (8192,) * 3],
    "gpt2": [(8192, 2304, 768), (8192, 768, 768), (8192, 3072, 768), (8192, 768, 3072)],
    "skinny": [(1, 4096, 4096), (16, 4096, 4096), (128, 4096, 4096)],
}
ROWS = {  # (rows, columns) of row-wise and elementwise operations
    "small": [(32, 128), (256, 1024)],
    "large": [(4096, 1024), (8192, 4096), (65536, 512), (1024, 50304)],
}
