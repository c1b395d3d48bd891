"""From images to input counts: the one place where that is defined."""

import numpy as np
from numpy.typing import NDArray

from polyspike.spec import InputError

from .graph import Input


def quantize(node: Input, images: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Turn images into input counts.

    Parameters
    ----------
    node
        The network's input.
    images
        uint8, [batch, channels, height, width]; the channel axis may be missing for one channel.

    Returns
    -------
    int16, [batch, *node.shape]

    Raises
    ------
    InputError
        Shape or dtype is wrong.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise InputError(f"images must be uint8 (0..255), not {images.dtype}")
    if images.ndim == 3 and node.image[0] == 1:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1:] != node.image:
        raise InputError(
            f"images have shape {tuple(images.shape)}, but the network takes [batch, {', '.join(map(str, node.image))}]"
        )
    # A pixel has 256 values, so each channel's counts are a table.
    pixel = np.arange(256, dtype=np.float64) / 255
    table = np.stack(
        [np.rint((pixel - mean) / std / node.scale) for mean, std in zip(node.mean, node.std, strict=True)]
    )
    table = np.clip(table, -node.counts.n_neg, node.counts.n_pos).astype(np.int16)
    counts: NDArray[np.int16] = table[np.arange(node.image[0])[None, :, None, None], images]
    return counts.reshape(len(images), *node.shape)
