import pytest

# pytester forgets what a run within this one imported, and torch cannot be imported twice.
import torch._dynamo  # noqa: F401  # for that alone

pytest_plugins = ["pytester"]

# Plugins that would change what the runs that tests start do; tests of them load them by name.
OTHERS = ("asyncio", "benchmark", "randomly")


@pytest.fixture(autouse=True)
def _others_stay_out(request, monkeypatch):
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")  # which takes the variable away
        monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(f"-p no:{name}" for name in OTHERS))
