"""Between arrays of counts or membranes and 64-bit words, as the memory map (`polyspike.spec.memory`) defines them."""

import numpy as np
from numpy.typing import NDArray


def words_per_pixel(channels: int, bits: int) -> int:
    """Return the 64-bit words that hold `channels` values of `bits` bits each."""
    return -(-channels * bits // 64)


def pack_counts(counts: NDArray[np.integer], bits: int) -> NDArray[np.uint64]:
    """Pack counts into words.

    Parameters
    ----------
    counts
        integers, [..., channels, rows, pixels]
    bits
        4 or 8

    Returns
    -------
    uint64, [..., rows, pixels, words], unused channels zero
    """
    codes = np.moveaxis(np.asarray(counts), -3, -1).astype(np.int64) & ((1 << bits) - 1)
    per_word = 64 // bits
    words = words_per_pixel(codes.shape[-1], bits)
    padded = np.zeros((*codes.shape[:-1], words * per_word), np.uint64)
    padded[..., : codes.shape[-1]] = codes.astype(np.uint64)
    grouped = padded.reshape(*codes.shape[:-1], words, per_word)
    shifts = np.arange(per_word, dtype=np.uint64) * np.uint64(bits)
    packed: NDArray[np.uint64] = np.bitwise_or.reduce(grouped << shifts, axis=-1)
    return packed


def unpack_counts(words: NDArray[np.uint64], channels: int, bits: int, n_pos: int) -> NDArray[np.int16]:
    """Undo `pack_counts`: uint64 [..., rows, pixels, words] to int16 [..., channels, rows, pixels]."""
    per_word = 64 // bits
    shifts = np.arange(per_word, dtype=np.uint64) * np.uint64(bits)
    codes = (words[..., None] >> shifts) & np.uint64((1 << bits) - 1)
    codes = codes.reshape(*words.shape[:-1], words.shape[-1] * per_word)[..., :channels].astype(np.int16)
    counts = np.where(codes > n_pos, codes - (1 << bits), codes)
    return np.moveaxis(counts, -1, -3).astype(np.int16)


def unpack_membranes(words: NDArray[np.uint64], channels: int) -> NDArray[np.int32]:
    """Turn words of two 32-bit values each into membranes.

    uint64 [..., rows, pixels, words] becomes int32 [..., channels, rows, pixels].
    """
    halves = np.ascontiguousarray(words).astype("<u8").view("<i4")
    return np.moveaxis(halves[..., :channels], -1, -3).astype(np.int32)


def pack_weight_rows(rows: NDArray[np.int8]) -> NDArray[np.uint64]:
    """Pack weight rows, int8 [rows, lanes], into words [rows * lanes / 8] in address order."""
    return np.ascontiguousarray(rows).view("<u8").astype(np.uint64).reshape(-1)


def pack_params(
    theta: NDArray[np.integer], bias: NDArray[np.integer], v0: NDArray[np.integer], fourth: NDArray[np.integer]
) -> NDArray[np.uint64]:
    """Pack the parameters of channels, [channels] each, into words [channels * 2] in address order.

    The fourth is theta_neg, or jumps of random numbers.
    """
    low = np.stack([theta, v0], axis=1).astype(np.int64) & 0xFFFFFFFF
    high = np.stack([bias, fourth], axis=1).astype(np.int64) & 0xFFFFFFFF
    return (low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)).reshape(-1)
