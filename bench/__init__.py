"""Side-by-side benchmarks: Plum and what an operator could pick instead.

`python -m bench.run [SUITE...] [--quick]` writes `bench/results/`.
"""
