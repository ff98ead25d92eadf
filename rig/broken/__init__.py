"""Services that are broken on purpose, each in one way that people really write, and some that are sound.

`table` has them with what must be said of each; their programs are in `services`.
"""
