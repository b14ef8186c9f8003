# pytest forgets what a run within this one imported: torch cannot be imported twice, and the plugin
# of hypothesis would import that anew each time.
import hypothesis
import pytest
import torch._dynamo  # noqa: F401  # for that alone

pytest_plugins = ["pytester"]

# Plugins that are here to be tested beside ours, and leave the runs of other tests alone.
QUIET = "--randomly-dont-reorganize --randomly-dont-reset-seed --benchmark-disable"

# A busy machine is no mistake of ours: nothing here depends on how long an example takes.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _others_stay_out(request, monkeypatch):
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")  # which takes the variable away
        monkeypatch.setenv("PYTEST_ADDOPTS", QUIET)
