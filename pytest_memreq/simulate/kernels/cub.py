"""Temporary storage of CUB's device-wide algorithms, which torch asks the allocator for.

DispatchRadixSort, DispatchScan, DispatchSelectIf, DispatchReduceByKey and DispatchReduce of CUB
(cub/device/dispatch/), with the policies of capability 9.0; found from what the CUDA build of torch
2.13 asked for over a range of sizes.
Every part is aligned to 256 bytes, and 255 are added to align the whole.
"""

from __future__ import annotations

ALIGNMENT = 256
DIGITS = 256  # of a pass, which sorts by 8 bits
LOOKBACK_BYTES = DIGITS * 4  # of a tile
BIN_BYTES = DIGITS * 8  # of a pass
# Items that a block sorts at once, by the bytes of a key and of its value.
TILE_ITEMS = {
    (8, 8): 4608,
    (4, 8): 5376,
    (2, 8): 5632,
    (1, 8): 3456,
    (8, 0): 5760,
    (4, 0): 7296,
    (2, 0): 9728,
    (1, 0): 9728,
}
SINGLES_TILE_ITEMS = 6912  # keys that are float32, without values
USUAL_TILE_ITEMS = 5376
SINGLE_TILE_ITEMS = {8: 256 * 9, 4: 256 * 19}  # by the larger of key and value
SCAN_TILE_ITEMS = 1920
SHORT_SCAN_TILE_ITEMS = 3072
KEYED_SCAN_TILE_ITEMS = 2464
# Bytes of a state, and items, of cumsum's and cumprod's tiles, by bytes of an item.
CUMULATIVE = {2: (16, 7680), 4: (8, SCAN_TILE_ITEMS), 8: (16, 896)}
SELECT_TILE_ITEMS = 4928
SELECTED_TILE_ITEMS = {8: 4224, 4: 6528, 2: 5632, 1: 5632}  # by bytes of an item
SELECTED_HALVES_TILE_ITEMS = 1280
RUN_TILE_ITEMS = 768
SINGLE_REDUCE_ITEMS = 4096
REDUCE_SUBSCRIPTION = 5
PADDING_TILES = 32


def aligned(*sizes: int) -> int:
    """Bytes of parts that are each aligned, and of the alignment of the whole."""
    return sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes) + ALIGNMENT - 1


def radix_sort(
    items: int, key_bytes: int, value_bytes: int, bits: int, *, is_single: bool = False
) -> int:
    """Bytes to sort keys of so many significant bits, with their values."""
    largest = max(key_bytes, value_bytes)
    if items <= SINGLE_TILE_ITEMS.get(largest, SINGLE_TILE_ITEMS[4]):
        return 1
    tile_items = TILE_ITEMS.get((key_bytes, value_bytes), USUAL_TILE_ITEMS)
    if is_single and not value_bytes:
        tile_items = SINGLES_TILE_ITEMS
    passes = -(-bits // 8)
    parts = [-(-items // tile_items) * LOOKBACK_BYTES, passes * BIN_BYTES, 4 * passes]
    if passes > 1:  # a second buffer to sort to and fro
        parts += [items * key_bytes, items * value_bytes]
    return aligned(*parts)


def segmented_sort(items: int, key_bytes: int, value_bytes: int) -> int:
    """Bytes to sort every segment by itself: second buffers."""
    return aligned(items * key_bytes, items * value_bytes)


def scan(items: int, state_bytes: int = 8, tile_items: int = SCAN_TILE_ITEMS) -> int:
    """Bytes of a prefix sum: a state of each tile."""
    tiles = -(-items // tile_items) + PADDING_TILES
    return aligned(tiles * state_bytes, 1)


def select(items: int) -> int:
    """Bytes to find the first of each run of equal keys, with its place (DispatchUniqueByKey)."""
    return scan(items, state_bytes=16, tile_items=SELECT_TILE_ITEMS)


def cumulative(items: int, item_bytes: int) -> int:
    """Bytes of a prefix sum of numbers of so many bytes, in their own type."""
    return scan(items, *CUMULATIVE[item_bytes])


def scan_by_key(items: int) -> int:
    """Bytes of prefix sums of 64-bit numbers, each run of equal 64-bit keys by itself."""
    tiles = -(-items // KEYED_SCAN_TILE_ITEMS)
    return aligned((tiles + PADDING_TILES) * 16, tiles * 8)


def short_scan(items: int) -> int:
    """Bytes of a prefix sum of 32-bit numbers into 64-bit ones."""
    return scan(items, tile_items=SHORT_SCAN_TILE_ITEMS)


def selected(items: int, item_bytes: int, *, is_half: bool = False) -> int:
    """Bytes to keep some items in their order, by flags or by what differs from its neighbour."""
    tile_items = SELECTED_HALVES_TILE_ITEMS if is_half else SELECTED_TILE_ITEMS[item_bytes]
    return scan(items, tile_items=tile_items)


def run_lengths(items: int) -> int:
    """Bytes to find runs of equal items, and how long they are."""
    return aligned((-(-items // RUN_TILE_ITEMS) + PADDING_TILES) * 16)


def total(items: int, resident_blocks: int, accumulator_bytes: int = 4) -> int:
    """Bytes to add all up, on a card that runs so many blocks at once: a sum of each."""
    if items <= SINGLE_REDUCE_ITEMS:
        return 1
    return aligned(resident_blocks * REDUCE_SUBSCRIPTION * accumulator_bytes)


def bits_of(number: int) -> int:
    """Significant bits: at::cuda::cub::get_num_bits."""
    return max(number, 1).bit_length()
