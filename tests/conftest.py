# pytest forgets what a run within this one imported: torch cannot be imported twice, and the plugin
# of hypothesis would import that anew each time.
import hypothesis
import torch._dynamo  # noqa: F401  # for that alone

pytest_plugins = ["pytester"]

# A busy machine is no mistake of ours: nothing here depends on how long an example takes.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")
