"""From images or events to input counts: the one place where that is defined."""

import numpy as np
from numpy.typing import NDArray

from polyspike.spec import InputError

from .graph import Input


def quantize(node: Input, images: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Turn images, or events in bins, into input counts.

    Parameters
    ----------
    node
        The network's input.
    images
        uint8, [batch, channels, height, width], or with events [batch, bins, channels, height, width]; the channel axis
        may be missing for one channel.

    Returns
    -------
    int16, [batch, *node.shape], or with events [batch, bins, *node.shape]

    Raises
    ------
    InputError
        Shape or dtype is wrong.
    """
    images = np.asarray(images)
    what = "images" if node.bins is None else "event counts"
    if images.dtype != np.uint8:
        raise InputError(f"{what} must be uint8 (0..255), not {images.dtype}")
    if images.ndim == len(node.item) and node.image[0] == 1:
        images = np.expand_dims(images, -3)
    if images.shape[1:] != node.item:
        raise InputError(
            f"{what} have shape {tuple(images.shape)}, but the network takes [batch, {', '.join(map(str, node.item))}]"
        )
    if node.bins is not None:
        clipped = np.minimum(images, node.counts.n_pos).astype(np.int16)
        return clipped.reshape(len(images), node.bins, *node.shape)
    # A pixel has 256 values, so each channel's counts are a table.
    pixel = np.arange(256, dtype=np.float64) / 255
    table = np.stack(
        [np.rint((pixel - mean) / std / node.scale) for mean, std in zip(node.mean, node.std, strict=True)]
    )
    table = np.clip(table, -node.counts.n_neg, node.counts.n_pos).astype(np.int16)
    counts: NDArray[np.int16] = table[np.arange(node.image[0])[None, :, None, None], images]
    return counts.reshape(len(images), *node.shape)
