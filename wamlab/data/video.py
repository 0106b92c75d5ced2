"""Frames of a video file by their numbers, decoded in order and no more than needed. Knows nothing of scenes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
from PIL import Image

from wamlab.errors import ImageDamaged

#: HEVC pictures (slice types IDR_W_RADL and IDR_N_LP) that nothing before them is needed for, and that nothing after reaches across.
IDR = (19, 20)


def video_images(path: Path, numbers: Iterable[int]) -> Iterator[Image.Image]:
    """The frames of these numbers (from 0, in the order they are shown), which must rise.

    A raw HEVC stream has no table of contents, so it is read from its start; but decoding starts at the last picture that stands for
    itself, and stops after the last frame asked for.

    Raises:
        ImageDamaged: the video is missing, damaged, or ends before a frame.
    """
    numbers = list(numbers)
    if not numbers:
        return
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"err_detect": "explode"}
            for number, frame in _decoded(container, stream, numbers[0]):
                if number == numbers[0]:
                    if frame.is_corrupt:
                        raise ImageDamaged(f"frame {number} of {path} is damaged")
                    yield frame.to_image()
                    del numbers[0]
                    if not numbers:
                        return
    except FileNotFoundError:
        raise ImageDamaged(f"video {path} is missing") from None
    except (av.FFmpegError, IndexError, OSError) as error:
        raise ImageDamaged(f"video {path} is damaged before frame {numbers[0]} ({error})") from error
    raise ImageDamaged(f"video {path} ends before frame {numbers[0]}")


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, first: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames with their numbers, from `first` or a little before."""
    held, number = (
        [],
        0,
    )  # the packets since the last picture that stands for itself, and the number of the first of them
    for i, packet in enumerate(container.demux(stream)):
        if i <= first and _stands_for_itself(packet, stream.codec.name):
            held, number = [], i
        held.append(packet)
        if i >= first:
            for waiting in held:
                for frame in waiting.decode():
                    yield number, frame
                    number += 1
            held = []


def _stands_for_itself(packet: av.Packet, codec: str) -> bool:
    """Whether decoding may start here and frames are shown in the order of their packets across it."""
    if codec != "hevc" or not packet.is_keyframe:
        return False
    content = bytes(packet)
    start = content.find(b"\x00\x00\x01")
    while start >= 0:
        kind = content[start + 3] >> 1 & 0x3F
        if kind < 32:  # a slice of a picture, not a parameter set
            return kind in IDR
        start = content.find(b"\x00\x00\x01", start + 3)
    return False
