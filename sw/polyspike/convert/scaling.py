"""Looking for the one factor of all ranges that serves a network best: the scaling of scale-and-fire neurons.

SFN (arXiv 2510.23383) multiplies its base thresholds by a factor found with Bayesian optimization. Here the optimizer
is Optuna's tree-structured Parzen estimator, and what is minimized is up to the caller, see `calibration.py`.
"""

import logging
import math
from collections.abc import Callable

from tqdm import tqdm

from polyspike.spec import ConversionError

from .options import SCALES


def search_scale(
    loss: Callable[[float], float], start: float, trials: int, seed: int, *, progress: bool = False
) -> float:
    """Return the scale, within `SCALES`, with the least loss of all that were tried.

    Parameters
    ----------
    loss
        What is lost at a scale. Where it raises ConversionError (a scale too small for the weights), the scale is no
        good.
    start
        The first scale to be tried.
    trials, seed
        How many are tried, and what their choice is drawn from: the same numbers give the same result.
    progress
        Show a progress bar.

    Raises
    ------
    ConversionError
        No scale could be tried; the error is that of the last one.
    """
    import optuna  # takes a while, and few conversions need it

    # The study says by a log message that it was made; the bar here says more.
    logging.getLogger("optuna").setLevel(logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial({"scale": start})
    failure: ConversionError | None = None
    with tqdm(total=trials, desc="scale", disable=not progress) as bar:
        for _ in range(trials):
            trial = study.ask()
            value = math.inf
            try:
                value = loss(trial.suggest_float("scale", *SCALES, log=True))
            except ConversionError as error:
                failure = error
            study.tell(trial, value if math.isfinite(value) else math.inf)
            bar.set_postfix(scale=f"{study.best_params['scale']:.3f}", loss=f"{study.best_value:.4f}")
            bar.update()
    if failure is not None and study.best_value == math.inf:
        raise failure
    return float(study.best_params["scale"])
