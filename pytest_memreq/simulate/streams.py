"""Streams and events of a pretended card: memory belongs to the stream that was current.

Nothing runs, so there is never anything to wait for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from typing_extensions import Self

DEVICE = torch.device("cuda", 0)


@dataclass(slots=True)
class Streams:
    """Which stream is current; 0 is the default one. A graph that is captured has one as well."""

    current: int = 0
    made: int = 0
    is_capturing: bool = False


class Context:
    """Stands for `torch.cuda.device(...)`."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        return None


class Event:
    """An event on a device where everything has already happened."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def record(self, stream: object = None) -> None:
        """Nothing is under way."""

    def wait(self, stream: object = None) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def query(self) -> bool:
        """Always done."""
        return True

    def elapsed_time(self, _end: Event) -> float:
        """Milliseconds; nothing ran, so a token one."""
        return 1.0


class Stream:
    """A stream; within it, or with torch.cuda.stream(...), it is the current one."""

    device = DEVICE
    device_index = 0
    device_type = 1  # c10::DeviceType::CUDA
    priority = 0
    _streams = Streams()

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        self._streams.made += 1
        self.stream_id = self.cuda_stream = self._streams.made
        self._outer: list[int] = []

    def __enter__(self) -> Self:
        self._outer.append(self._streams.current)
        self._streams.current = self.stream_id
        return self

    def __exit__(self, *_exception: object) -> None:
        self._streams.current = self._outer.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.stream_id == self.stream_id

    def __hash__(self) -> int:
        return hash(self.stream_id)

    def wait_stream(self, _other: object) -> None:
        """Nothing to wait for."""

    def wait_event(self, _event: object) -> None:
        """Nothing to wait for."""

    def record_event(self, event: Event | None = None) -> Event:
        """An event that has already happened."""
        return event or Event()

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def query(self) -> bool:
        """Always done."""
        return True

    def is_capturing(self) -> bool:
        """True while a graph is captured."""
        return self._streams.is_capturing


def stream_answers(streams: Streams) -> dict[str, Any]:
    """What `torch.cuda` and `torch.accelerator` have of streams."""

    class OwnStream(Stream):
        _streams = streams

    def numbered(number: int) -> Stream:
        stream = OwnStream.__new__(OwnStream)
        stream.stream_id = stream.cuda_stream = number
        stream._outer = []
        return stream

    def set_stream(stream: Stream) -> None:
        streams.current = stream.stream_id

    return {
        "Stream": OwnStream,
        "Event": Event,
        "current_stream": lambda device=None: numbered(streams.current),
        "default_stream": lambda device=None: numbered(0),
        "set_stream": set_stream,
        "stream": lambda stream=None: Context() if stream is None else stream,
        "device": Context,
        "device_of": Context,
    }
