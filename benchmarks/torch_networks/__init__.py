"""Training steps of the four families in plain PyTorch, to be measured beside ours.

Written from the papers and their tables of sizes, as one writes PyTorch: eager modules, channels
first, images in [-1, 1], and operations where the papers have them, not where ours moved them.
Parameters have the names of ours, so that `weights.load` can give both the same numbers. For small
images the sizes follow the rules of `xmc_jax/backbones`.
"""
