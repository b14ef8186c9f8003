"""The action and the workflows, as GitHub reads them."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "example_project" / ".github" / "workflows"
WORKFLOWS = sorted([*(ROOT / ".github" / "workflows").glob("*.yml"), *EXAMPLES.glob("*.yml")])


def read(path):
    """YAML, where the key `on` is the word and not true."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


ACTION = read(ROOT / "action.yml")


def steps_of(document):
    if "runs" in document:
        return document["runs"]["steps"]
    return [step for job in document["jobs"].values() for step in job["steps"]]
