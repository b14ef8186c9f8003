import torch  # noqa: F401  # pytester forgets what a run imported, and torch cannot be imported twice

pytest_plugins = ["pytester"]
