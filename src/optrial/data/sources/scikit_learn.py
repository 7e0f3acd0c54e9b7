"""Datasets that scikit-learn ships."""

from __future__ import annotations

from sklearn import datasets

from optrial.data.arguments import Arguments
from optrial.data.source import Request, Source


def read_digits(_: Request[Arguments]) -> Source:
    """Return the 1,797 digits, (n, 1, 8, 8) with pixels 0..16; the test split is stratified."""
    images, labels = datasets.load_digits(return_X_y=True)
    return Source({"all": (images.reshape(-1, 1, 8, 8), labels)}, stratified=True)


def read_diabetes(_: Request[Arguments]) -> Source:
    """Return 442 patients, (n, 10), and the progression of their disease after a year, (n,)."""
    # As measured: scikit-learn's own scaling would use the test samples too.
    return Source({"all": datasets.load_diabetes(return_X_y=True, scaled=False)})


def read_breast_cancer(_: Request[Arguments]) -> Source:
    """Return 569 tumours, (n, 30), malignant (0) or benign (1); the test split is stratified."""
    data = datasets.load_breast_cancer()
    samples = {"all": (data.data, data.target)}
    return Source(samples, stratified=True, class_names=data.target_names.tolist())


def read_wine(_: Request[Arguments]) -> Source:
    """Return 178 wines, (n, 13), of three kinds of grapes; the test split is stratified."""
    return Source({"all": datasets.load_wine(return_X_y=True)}, stratified=True)
