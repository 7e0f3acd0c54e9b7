"""Draw the pictures of the notes beside this file: python docs/recipes/make_figures.py FOLDER

FOLDER holds the results of the recipes, each in a folder of its name (`optrial run NAME --out
FOLDER/NAME`). Each picture is drawn by one command, which its note shows. A picture whose results
are missing is left as it is.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent

COMMANDS: Mapping[str, str] = {
    "adaptive-methods-cifar10": "optrial plot adaptive-methods-cifar10 --metric train_loss_epoch "
    "--metric test_accuracy --x epochs",
    "adaptive-methods-cifar10-dropout": "optrial plot adaptive-methods-cifar10-dropout "
    "--metric train_loss_epoch --metric test_accuracy --x epochs",
    "cnn-cifar10": "optrial plot cnn-cifar10 --metric train_loss --x steps --smooth 5",
    "fashion-mnist-sweep": "optrial plot fashion-mnist-sweep --metric test_accuracy "
    "--metric relu_gradient_square_sum --x epochs",
    "gpt-shakespeare": "optrial plot gpt-shakespeare-small --metric train_loss --smooth 20",
    "mnist-optimizers": "optrial plot mnist-optimizers --metric train_loss --metric test_accuracy "
    "--smooth 50 --only sgd --only momentum --only adam",
    "no-decay-on-norms": "optrial plot no-decay-on-norms-small --metric train_loss --smooth 20",
    "numpy-vs-torch": "optrial plot numpy-vs-torch-moons numpy-vs-torch-with-replacement "
    "--metric train_loss_epoch --x epochs --smooth 10 --only 'sgd batch_size=128'",
    "resnet-cifar10": "optrial plot resnet-cifar10-small --metric train_loss --smooth 10",
    "rnn-palindrome": "optrial plot rnn-palindrome-20 --metric test_accuracy --each-seed",
    "sgd-from-scratch": "optrial plot sgd-from-scratch --metric train_loss "
    "--metric train_accuracy --x steps --smooth 100",
    "tabular": "optrial plot tabular-small --metric train_loss --smooth 10",
    "vit-cifar10": "optrial plot vit-cifar10-small --metric train_loss --smooth 10",
}
"""Name of a picture -> the command that draws it."""


def draw(command: str, folder: Path, file: Path) -> None:
    """Run a command in the folder of the results and write its picture to a file."""
    program, *arguments = shlex.split(command)
    words = [sys.executable, "-m", program, *arguments, "--out", str(file.absolute())]
    subprocess.run(words, cwd=folder, check=False)  # without results, the command says so


if __name__ == "__main__":
    for name, command in COMMANDS.items():
        draw(command, Path(sys.argv[1]), HERE / f"{name}.png")
