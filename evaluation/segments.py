"""How well a partition of pixels finds the objects in pictures, and a partition that needs no model.

Shapes: N pictures, H height, W width, K objects, S segments that were found.
"""

import numpy as np


def foreground_ari(true_NHW: np.ndarray, found_NHW: np.ndarray, counted_NHW: np.ndarray) -> np.ndarray:
    """Return the adjusted Rand index of each picture over the pixels that count, float64 (N,); NaN where none does.

    `true_NHW` and `found_NHW` are whole numbers that say which object, and which segment, a pixel belongs to (Hubert & Arabie, 1985).
    Where both are of one piece it is 1.
    """
    pictures = zip(true_NHW, found_NHW, counted_NHW, strict=True)
    return np.array([_adjusted_rand(true[counted], found[counted]) for true, found, counted in pictures])


def mean_iou(objects_NKHW: np.ndarray, found_NHW: np.ndarray, segments: int) -> np.ndarray:
    """Return the intersection over union of each picture's objects with the segments that suit them best together, float64 (N,).

    The mean is over the objects bool (N, K, H, W) that are seen in a picture; one that gets no segment counts as 0. NaN where none is seen.
    """
    means = []
    for objects, found in zip(objects_NKHW, found_NHW, strict=True):
        seen = objects[objects.any((1, 2))]
        iou = overlaps(seen, found, segments)
        means.append(sum(iou[pair] for pair in best_pairs(iou)) / len(seen) if len(seen) else np.nan)
    return np.array(means)


def overlaps(objects_KHW: np.ndarray, found_HW: np.ndarray, segments: int) -> np.ndarray:
    """Return the intersection over union of every object bool (K, H, W) with every segment 0 ... S-1: float64 (K, S)."""
    objects = objects_KHW.reshape(len(objects_KHW), found_HW.size).astype(np.float64)
    parts = np.eye(segments)[found_HW.ravel()]
    common = objects @ parts
    return common / np.maximum(1, objects.sum(1)[:, None] + parts.sum(0) - common)


def best_pairs(scores_KS: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs (object, segment), each at most once, whose scores together are the highest (the Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(scores_KS, maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def clustered(pictures_NHWC: np.ndarray, segments: int) -> np.ndarray:
    """Part the pixels of each uint8 picture by k-means on colour and position, all from 0 to 1: int (N, H, W)."""
    from sklearn.cluster import KMeans

    height, width = pictures_NHWC.shape[1:3]
    places = np.stack(np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij"), -1).reshape(-1, 2)
    found = []
    for picture in pictures_NHWC:
        points = np.concatenate([picture.reshape(-1, picture.shape[-1]) / 255, places], 1).astype(np.float32)
        found.append(KMeans(segments, n_init=2, random_state=0).fit_predict(points).reshape(height, width))
    return np.array(found)


def painted(pictures_NHWC: np.ndarray, found_NHW: np.ndarray) -> np.ndarray:
    """Give every segment of each uint8 picture its mean colour: float64 (N, H, W, C) in [0, 1]."""
    painted = np.empty(pictures_NHWC.shape)
    for picture, found, target in zip(pictures_NHWC, found_NHW, painted, strict=True):
        for segment in np.unique(found):
            target[found == segment] = picture[found == segment].mean(0) / 255
    return painted


def _adjusted_rand(true: np.ndarray, found: np.ndarray) -> float:
    if not len(true):
        return float("nan")
    _, true = np.unique(true, return_inverse=True)
    kinds, found = np.unique(found, return_inverse=True)
    counts = np.bincount(true * len(kinds) + found, minlength=(true.max() + 1) * len(kinds)).reshape(-1, len(kinds)).astype(np.float64)
    both, in_true, in_found = (_pairs(part).sum() for part in (counts, counts.sum(1), counts.sum(0)))
    expected = in_true * in_found / max(1, len(true) * (len(true) - 1) // 2)
    most = (in_true + in_found) / 2
    return 1.0 if most == expected else float((both - expected) / (most - expected))


def _pairs(counts: np.ndarray) -> np.ndarray:
    return counts * (counts - 1) / 2
