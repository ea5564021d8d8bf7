"""The workloads of fsbench.py, and what measures them."""
