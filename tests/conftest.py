# pytester forgets what a run within this one imported, and torch cannot be imported twice.
import torch._dynamo  # noqa: F401  # for that alone

pytest_plugins = ["pytester"]
