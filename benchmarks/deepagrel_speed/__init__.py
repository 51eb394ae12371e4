"""Speed of DeepAGREL's learning, run by `python -m benchmarks.deepagrel_speed`."""
