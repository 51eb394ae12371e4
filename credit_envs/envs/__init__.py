"""The environments' pages: one file per kind of task, scalar and vector class in each."""
