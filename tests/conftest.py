# pytest forgets what a run within this one imported: torch cannot be imported twice, and the plugin
# of hypothesis would import that anew each time.
import hypothesis  # noqa: F401  # for that alone
import torch._dynamo  # noqa: F401  # for that alone

pytest_plugins = ["pytester"]
