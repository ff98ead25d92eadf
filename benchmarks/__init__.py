"""The figures that this project is held to, measured side by side in one run: `python -m benchmarks`."""
