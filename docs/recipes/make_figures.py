"""Draw the pictures of the notes beside this file: python docs/recipes/make_figures.py FOLDER

FOLDER holds the results of the recipes, each in a folder of its name (`optrial run NAME --out
FOLDER/NAME`). Each picture is that of one command, `optrial plot`, which is printed. A picture
whose results are not there is left as it is.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple

import optrial
from optrial.style import save_figure

HERE = Path(__file__).parent


class Picture(NamedTuple):
    """Arguments of `optrial plot`."""

    studies: tuple[str, ...]
    metrics: tuple[str, ...]
    x: Literal["steps", "epochs"] = "steps"
    smooth: int | None = None
    only: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command that draws the picture, in the folder of the results."""
        options = [*(f"--metric {name}" for name in self.metrics)]
        options += [f"--x {self.x}"]
        options += [f"--smooth {self.smooth}"] * bool(self.smooth)
        options += [f"--only '{name}'" for name in self.only]
        return " ".join(["optrial plot", *self.studies, *options])

    def draw(self, folder: Path, file: Path) -> None:
        """Draw the picture from the results in a folder."""
        with ExitStack() as stack:
            first, *others = (
                stack.enter_context(optrial.load(folder / name)) for name in self.studies
            )
            figure = first.curves_figure(
                self.metrics, x=self.x, smooth=self.smooth, only=self.only, beside=others
            )
            save_figure(figure, file)


PICTURES = {
    "adaptive-methods-cifar10": Picture(
        ("adaptive-methods-cifar10",), ("train_loss", "test_accuracy"), smooth=200
    ),
    "cnn-cifar10": Picture(("cnn-cifar10",), ("train_loss",), smooth=5),
    "numpy-vs-torch": Picture(
        ("numpy-vs-torch-moons", "numpy-vs-torch-with-replacement"),
        ("train_loss_epoch",),
        x="epochs",
        only=("sgd batch_size=128",),
    ),
    "rnn-palindrome": Picture(
        ("rnn-palindrome", "rnn-palindrome-10", "rnn-palindrome-20"), ("test_accuracy",)
    ),
    "sgd-from-scratch": Picture(
        ("sgd-from-scratch",), ("train_loss", "train_accuracy"), smooth=100
    ),
    "fashion-mnist-sweep": Picture(
        ("fashion-mnist-sweep",), ("test_accuracy", "relu_gradient_square_sum"), x="epochs"
    ),
}


def main(folder: Path) -> None:
    """Draw every picture whose results exist."""
    for name, picture in PICTURES.items():
        try:
            picture.draw(folder, HERE / f"{name}.png")
            sys.stderr.write(f"{name}: {picture.command}\n")
        except optrial.errors.OptrialError as error:
            sys.stderr.write(f"{name}: {error}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("studies"))
