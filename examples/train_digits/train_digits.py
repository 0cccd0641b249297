"""Train a support vector machine on scikit-learn's hand-written digits and print how well it does."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC


def main() -> None:
    """Fit on three quarters of the 1797 images, score on the rest, keep the figures in the home folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", default="rbf", choices=("linear", "poly", "rbf"))
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images, labels, random_state=options.seed, stratify=labels)
    train_images, test_images, train_labels, test_labels = split
    model = SVC(kernel=options.kernel).fit(train_images, train_labels)
    accuracy = accuracy_score(test_labels, model.predict(test_images))
    print(f"trained on {len(train_labels)} images with the {options.kernel} kernel")
    print(f"accuracy on {len(test_labels)} unseen images: {accuracy:.3f}")
    Path.home().joinpath("digits.json").write_text(json.dumps({"kernel": options.kernel, "accuracy": accuracy}))


if __name__ == "__main__":
    main()
