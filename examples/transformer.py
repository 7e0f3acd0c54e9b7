"""Find a learning rate for a transformer of your own, and get the trained model back.

Run it with: python examples/transformer.py
"""

from sklearn.datasets import load_digits
from torch import Tensor, nn, tensor, zeros

import optrial


class RowTransformer(nn.Module):
    """Reads an image of 8 x 8 pixels as eight rows."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, width), nn.Linear(width, 10)
        self.position = nn.Parameter(zeros(8, width))
        self.encoder = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.0, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of the ten digits, (batch, 10)."""
        return self.head(self.encoder(self.embed(images) + self.position).mean(dim=1))


if __name__ == "__main__":
    digits = load_digits()
    results = optrial.compare(
        model=RowTransformer,
        data=(digits.images / 16, digits.target),
        optimizers=[{"rule": "adamw", "lr": [0.01, 0.03]}, {"rule": "sgd", "lr": [0.1, 0.3]}],
        epochs=10,
        batch_size=32,
        save="best",
    )
    print(results.best(), results.recommendation(), results.recommendation().code, sep="\n")
    scores = results.best_model()(tensor(digits.images[:9] / 16).float())
    print("predicted", scores.argmax(dim=1).tolist(), "for", digits.target[:9].tolist())
