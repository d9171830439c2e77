"""The command line: training, evaluation and comparison of aiwae_jax on images."""
