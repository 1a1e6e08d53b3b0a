"""Trains a small net of scikit-learn on its digits. Nothing here knows of strive."""

import warnings

import hydra
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

NUM_TEST = 597  # always the last images: cells that differ in the seed alone are tested on the same ones


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> dict[str, float]:
    """Train from scratch for a fixed number of epochs; return the share of test images that are named wrongly."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16 if config.scale else images
    net = MLPClassifier(
        (config.hidden,) * config.layers,
        solver=config.solver,
        learning_rate_init=config.lr,
        alpha=config.penalty,
        max_iter=config.epochs,
        batch_size=32,
        random_state=config.seed,
    )
    warnings.simplefilter("ignore", ConvergenceWarning)
    net.fit(images[:-NUM_TEST], labels[:-NUM_TEST])
    return {"test_error": 1 - net.score(images[-NUM_TEST:], labels[-NUM_TEST:])}


if __name__ == "__main__":
    main()
