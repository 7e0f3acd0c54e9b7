"""Columns of a table -> numbers: imputed and one-hot encoded by scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from optrial.data.arguments import TableArguments
from optrial.data.columns import Roles
from optrial.data.source import Encoded
from optrial.data.summary import Column

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableEncoder"]

_COLUMNS_SHOWN = 8


@dataclass(frozen=True)
class TableEncoder:
    """Imputes missing values and encodes text, both learnt from training rows.

    The features are the numbers, then booleans as 0 and 1, then one 0/1 feature per category of
    each text column, then the indicators of missing values. A category that no training row has
    sets none of its column's features.

    Attributes:
        roles: of the columns.
        order: names of all columns of the table.
        targets: the columns to predict, as they appear in a summary.
        arguments: `impute`, `add_indicator` and `max_categories` are read.
    """

    roles: Roles
    order: tuple[str, ...]
    targets: Mapping[str, Column]
    arguments: TableArguments

    def __call__(self, frames: Mapping[str, pd.DataFrame], fitted_on: pd.DataFrame) -> Encoded:
        """Encode the frame of each split with statistics of the frame `fitted_on`."""
        empty = [name for name in self.roles.features if fitted_on[name].isna().all()]
        if empty:
            roles = self.roles.without(empty, "all values are missing in the training rows")
            return replace(self, roles=roles)(frames, fitted_on)
        categories = {name: sorted(fitted_on[name].dropna().unique()) for name in self.roles.texts}
        prepared = self._prepared(fitted_on, categories)
        fitted = self._transformer(fitted_on).fit(prepared)
        inputs = {
            split: np.asarray(fitted.transform(self._prepared(frame, categories)), np.float64)
            for split, frame in frames.items()
        }
        counts = {
            name: sum(int(frame[name].isna().sum()) for frame in frames.values())
            for name in self.roles.features
        }
        made = {**self.targets, **self.roles.dropped, **dict(self._described(fitted, counts))}
        columns = [made[name] for name in self.order]
        notes = [*self.roles.notes, *self._missing_note(counts)]
        return Encoded(inputs, len(self.roles.numbers), columns, notes)

    def _prepared(
        self, frame: pd.DataFrame, categories: Mapping[str, Sequence[str]]
    ) -> pd.DataFrame:
        """Return all columns as float64, NaN for missing.

        A text becomes its place among the categories, or -1: scikit-learn takes several times as
        long for texts.
        """
        import pandas as pd  # noqa: PLC0415  (half a second to import)

        numbers = frame[[*self.roles.numbers, *self.roles.booleans]].astype("float64")
        places = {}
        for name, known in categories.items():
            index: Any = pd.Index(list(known), dtype="object")
            place = index.get_indexer(frame[name].astype(object))
            places[name] = np.where(frame[name].isna(), np.nan, place)
        return numbers.join(pd.DataFrame(places, frame.index))

    def _transformer(self, train: pd.DataFrame) -> Any:
        from sklearn.compose import ColumnTransformer  # noqa: PLC0415  (two seconds to import)
        from sklearn.impute import MissingIndicator, SimpleImputer  # noqa: PLC0415
        from sklearn.pipeline import make_pipeline  # noqa: PLC0415
        from sklearn.preprocessing import OneHotEncoder  # noqa: PLC0415

        roles, arguments = self.roles, self.arguments
        one_hot: Any = OneHotEncoder(
            handle_unknown="ignore", max_categories=arguments.max_categories, sparse_output=False
        )
        if arguments.impute == "most_frequent":
            one_hot = make_pipeline(SimpleImputer(strategy="most_frequent"), one_hot)
        imputer = SimpleImputer(strategy=arguments.impute, keep_empty_features=True)
        indicator = MissingIndicator(features="all")
        return ColumnTransformer(
            [
                ("numbers", imputer, list(roles.numbers)),
                ("booleans", SimpleImputer(strategy="most_frequent"), list(roles.booleans)),
                ("texts", one_hot, list(roles.texts)),
                ("missing", indicator, self._indicated(train)),
            ]
        )

    def _indicated(self, train: pd.DataFrame) -> list[str]:
        """Return the columns that get an indicator: those with values imputed in training rows."""
        if not self.arguments.add_indicator:
            return []
        imputed = [*self.roles.numbers, *self.roles.booleans]
        if self.arguments.impute == "most_frequent":
            imputed += self.roles.texts
        return [name for name in imputed if train[name].isna().any()]

    def _described(self, fitted: Any, counts: Mapping[str, int]) -> Iterator[tuple[str, Column]]:
        """Say what became of each feature."""
        roles, strategy = self.roles, self.arguments.impute
        indicated = fitted.transformers[3][2]
        for kind, names in (("number", roles.numbers), ("boolean", roles.booleans)):
            used = strategy if kind == "number" else "most_frequent"
            for name in names:
                detail = "0 and 1" if kind == "boolean" else ""
                if counts[name]:
                    imputed = f"{counts[name]:,} missing: {used.replace('_', ' ')}"
                    imputed += " + indicator" if name in indicated else ""
                    detail = ", ".join(filter(None, (detail, imputed)))
                yield name, Column(name, kind, "feature", detail)
        for place, name in enumerate(roles.texts):
            detail = _categories(fitted.named_transformers_["texts"], place)
            if counts[name] and strategy == "most_frequent":
                detail += f"; {counts[name]:,} missing: most frequent"
                detail += " + indicator" if name in indicated else ""
            elif counts[name]:
                detail += f" + missing ({counts[name]:,})"
            yield name, Column(name, "text", "feature", detail)

    def _missing_note(self, counts: Mapping[str, int]) -> Iterator[str]:
        strategy = self.arguments.impute.replace("_", " ")
        kept = [] if strategy == "most frequent" else self.roles.texts
        some = {name: count for name, count in counts.items() if count}
        own = {name: count for name, count in some.items() if name in kept}
        booleans = {name: count for name, count in some.items() if name in self.roles.booleans}
        if strategy == "most frequent":
            booleans = {}
        filled = {name: n for name, n in some.items() if name not in {**own, **booleans}}
        if filled:
            yield f"missing values become the {strategy} of the training rows: {_listed(filled)}"
        if booleans:
            yield f"missing booleans become the most frequent one: {_listed(booleans)}"
        if own:
            yield f"missing text is a category of its own: {_listed(own)}"


def _listed(counts: Mapping[str, int]) -> str:
    """List names and counts, the first few in full."""
    shown = [f"{name} ({count:,})" for name, count in counts.items()][:_COLUMNS_SHOWN]
    more = len(counts) - len(shown)
    return ", ".join([*shown, *([f"and {more} more columns"] if more else [])])


def _categories(encoder: Any, place: int) -> str:
    """Say how many categories a text column has, and how many of them share a feature."""
    one_hot = encoder[-1] if hasattr(encoder, "steps") else encoder
    named = np.isfinite(one_hot.categories_[place]).sum()
    rare = one_hot.infrequent_categories_[place]
    text = f"one-hot, {named:,} categories"
    return text if rare is None else f"{text}, the {len(rare):,} rarest as one"
