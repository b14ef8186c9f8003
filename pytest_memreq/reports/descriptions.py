"""What each field of a report and of a baseline is, with its unit: for the schemas.

By the type that has it and its name in the file; the empty name is the type itself.
"""

from __future__ import annotations

from collections.abc import Mapping

_BREAKDOWN = {
    "parameters": "parameters of modules",
    "gradients": "gradients of parameters",
    "optimizer_states": "what optimizers keep of each parameter",
    "activations": "what autograd keeps for the backward pass",
    "buffers": "buffers of modules",
    "inputs": "what the work was given",
    "temporaries": "what is freed before the work ends",
    "workspaces": "what libraries take for themselves",
    "context": "the CUDA context, which is beside allocated",
    "other": "what is none of the other words",
}

DESCRIPTIONS: Mapping[str, Mapping[str, str]] = {
    "Results": {
        "": "A run: what it checked, where, and whether it came to its end.",
        "format": "The version of this format.",
        "status": "incomplete until the run came to its end; then figures are missing.",
        "running": "Node ids of tests, checked or not, that had begun and not ended.",
        "environment": "Where the figures come from.",
        "tests": "The tests that were checked, in the order of their node ids, each once.",
        "summary": "How many tests have each verdict.",
        "together": "The most that tests had of a card at once, where workers shared it.",
    },
    "Environment": {
        "": "Where the figures come from; null is not known, for instance before any test ran.",
        "mode": "How the figures were found: measured or simulated.",
        "gpu": "The card's name.",
        "gpu_bytes": "The card's memory, in bytes.",
        "torch": "The version of PyTorch, with its build.",
        "cuda": "The version of CUDA that PyTorch was built for.",
        "allocator": "The settings of the allocator, as PYTORCH_CUDA_ALLOC_CONF has them.",
        "world_size": "The number of ranks.",
    },
    "TestResult": {
        "": "What a test needed, and the verdict on it.",
        "nodeid": "The test's node id, as pytest has it.",
        "mode": "How the figures were found; null where nothing was.",
        "gpu": "The card that the figures hold for.",
        "verdict": "within: no limit is exceeded; over: one is; regressed, improved: farther "
        "from the baseline than its tolerance; unchecked: it could not be found out; error: the "
        "test failed by itself, so its figures go only as far as it came.",
        "reason": "Why, in one line.",
        "cause": "What the verdict is due to, where something depends on it.",
        "outcome": "What pytest made of the test.",
        "peak": "The largest value of each metric, without what other tests left.",
        "peak_at": "Where in the work the peak of allocated was.",
        "simulated": "What a simulation of the same test said, where it was measured as well.",
        "budget": "The limit on each metric that has one, in bytes.",
        "breakdown": "What was live at the peak of allocated, by what held it.",
        "absolute_peak": "The same peak with what other tests left.",
        "devices": "The peaks of each device, where there are several.",
        "unknown": "Why the peak of a metric is not known, by metric.",
        "held_bytes": "Alive when the test started, before its setup, in bytes.",
        "held_by": "Who made what is alive and not the test's or its fixtures', largest first.",
        "fixtures_bytes": "Held by the test's fixtures when its call began, in bytes; in the peak.",
        "leaked_bytes": "What the test left alive after its teardown, in bytes; below 0 where it "
        "gave back more than it took.",
        "survivors": "Tensors that outlived the runs of a test with a limit on leaks.",
        "snapshot": "The file of the memory history, relative to the report; a pickle, made for "
        "PyTorch's memory viewer: do not load one that you did not make.",
        "sites": "What was live at the peak of allocated, largest first; of many, the first 100.",
        "timeline": "Memory over time: pairs of an event and the bytes allocated after it; of "
        "many, at most 120 with every extreme among them.",
        "baseline": "What the test was held against, beside its budget; null where it was not.",
        "grew": "What grew since the baseline, in lines for people.",
        "hints": "Known causes that the figures show.",
        "notes": "What a reader of the figures has to know.",
        "duration_seconds": "How long the test's call took, in seconds.",
        "file": "The file that has the test, relative to pytest's root directory.",
        "line": "The line of the test in its file, from 1.",
        "ranks": "Each rank that ran the test, or should have; null where there was one process.",
        "rooms": "What was set aside for it of each card that workers shared; else empty.",
    },
    "Room": {
        "": "What was set aside of a card for a test.",
        "card": "The card's number, by its place among those that the run sees.",
        "bytes": "All that the worker and what it started might have there, in bytes: the test's "
        "limit, what others left in the process, what is outside of the allocator. 0 for a test "
        "without a limit.",
        "waited_seconds": "How long the test waited for it, in seconds.",
        "begun_seconds": "From when, in seconds since the epoch.",
        "ended_seconds": "Until when: the test's teardown was over.",
    },
    "Together": {
        "": "The most that tests had of one card at the same time; of each figure the largest.",
        "card": "The card's number, as in rooms.",
        "tests": "How many ran.",
        "rooms_bytes": "What was set aside for them, in bytes.",
        "peak": "The sum of their peaks, which need not have been at the same moment; null where "
        "that of one is not known.",
    },
    "RankResult": {
        "": "What a test needed on one rank; the test's own figures are those of the worst.",
        "rank": "The rank, from 0.",
        "verdict": "The rank's own verdict; error where it has no result.",
        "reason": "Why, in one line.",
        "outcome": "What pytest made of the test there.",
        "gpu": "The card.",
        "peak": "The largest value of each metric.",
        "held_bytes": "Alive when the test started, before its setup, in bytes.",
        "leaked_bytes": "What the test left alive after its teardown, in bytes.",
    },
    "Holder": {
        "": "One who holds memory.",
        "who": "A test, a fixture, or a module.",
        "bytes": "What it holds, in bytes.",
    },
    "Simulated": {
        "": "What a simulation said of a test that was measured.",
        "gpu": "The card that was pretended.",
        "peak": "The largest value of each metric.",
        "reason": "Why the peak is not all that the test does; empty where it is.",
        "breakdown": "What was live at the peak of allocated, by what held it.",
        "sites": "What was live at the peak of allocated, largest first.",
        "timeline": "Memory over time, as that of the test.",
        "baseline": "What the simulation was held against.",
        "grew": "What grew since that, in lines for people.",
        "divergence": "A line for each metric that is too far from what was measured.",
    },
    "Peak": {
        "": "The largest value of each metric over a span of work; null is not known, never 0.",
        "requested_bytes": "Bytes asked for, before rounding.",
        "allocated_bytes": "Bytes in blocks handed out: torch.cuda.max_memory_allocated.",
        "reserved_bytes": "Bytes in segments held: torch.cuda.max_memory_reserved.",
        "device_bytes": "Bytes that the process holds on the card, its context included.",
    },
    "Breakdown": {
        "": "A requirement by what holds it; null is not known, never 0.",
        **{f"{word}_bytes": f"Bytes of {what}." for word, what in _BREAKDOWN.items()},
    },
    "DevicePeak": {
        "": "The peaks on one of several devices.",
        "index": "The device's number.",
        "name": "The card's name.",
        "peak": "Without what other tests left there.",
        "absolute_peak": "With what other tests left there.",
    },
    "Survivor": {
        "": "Tensors that outlived the work that made them, equal ones together.",
        "bytes": "Of all of them, in bytes.",
        "shape": "The shape of each.",
        "dtype": "The type of their elements.",
        "source": "Where they were made, as file:line.",
        "referrers": "Who holds them.",
        "count": "How many there are.",
    },
    "Site": {
        "": "A place in the code and all that it had live at a peak, equal blocks together.",
        "bytes": "Of all of them, in bytes.",
        "category": "A word of the breakdown.",
        "module": "The module of the model, by its name there.",
        "operator": "What made them.",
        "source": "Where they were made, as file:line.",
        "shape": "The shape of each tensor.",
        "dtype": "The type of their elements.",
        "count": "How many there are.",
    },
    "Before": {
        "": "What a test was held against.",
        "verdict": "The verdict by that alone; null where the baseline has nothing for the test.",
        "device": "The device of the baseline's entry.",
        "peak": "The peak of the baseline's entry.",
        "tolerance": "How far the test may move, as it is written in settings.",
    },
    "DeviceClass": {
        "": "What a figure holds for.",
        "mode": "How it was found: measured or simulated.",
        "gpu": "The card's name; null is not known.",
        "torch": "The minor version of PyTorch, such as 2.13; null is not known.",
        "allocator": "The settings of the allocator; null where there are none.",
        "world_size": "The number of ranks.",
    },
    "Hint": {
        "": "A known cause of a large peak.",
        "word": "The cause.",
        "evidence": "The figures that show it.",
        "advice": "What may help.",
    },
    "Baseline": {
        "": "What tests needed before, by test and class of devices.",
        "format": "The version of this format.",
        "entries": 'Sorted by test and device, none twice; the last element is the text "end".',
    },
    "Entry": {
        "": "What a test needed on one class of devices.",
        "nodeid": "The test's node id, as pytest has it.",
        "device": "What the figures hold for.",
        "peak": "The largest value of each metric; at least one is known.",
        "breakdown": "What was live at the peak of allocated, by what held it.",
        "largest": "The largest things live at that peak, at most 20, and last the rest.",
    },
    "Thing": {
        "": "All that was live of one kind.",
        "category": "A word of the breakdown.",
        "module": "The module of the model, by its name there.",
        "shape": "The shape of each tensor.",
        "dtype": "The type of their elements.",
        "bytes": "Of all of them, in bytes.",
    },
    "Rest": {
        "": "What was live and is not listed.",
        "rest_bytes": "In bytes; 0 where the list is whole, null where it is not known.",
    },
}
