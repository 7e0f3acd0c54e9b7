"""Columns of a table as numbers: imputed and one-hot encoded by scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from optrial.data.arguments import TableArguments
from optrial.data.source import Encoded
from optrial.data.sources.columns import Roles
from optrial.data.summary import Column
from optrial.errors import counted

_COLUMNS_SHOWN = 8


@dataclass(frozen=True)
class TableEncoder:
    """Imputes missing values and encodes text, both fitted to the training rows.

    The features are the numbers, then booleans as 0 and 1, then one 0/1 feature per category of
    each text column, then the indicators of missing values. A category without training rows sets
    none of the features of its column to 1.

    Attributes:
        roles: roles of the columns.
        order: names of all columns of the table.
        targets: summaries of the columns to predict.
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
        features = dict(self._described(fitted, counts))
        described = {**self.targets, **self.roles.dropped, **features}
        columns = [described[name] for name in self.order]
        notes = [*self.roles.notes, *self._missing_notes(counts)]
        return Encoded(inputs, len(self.roles.numbers), columns, notes)

    def _prepared(
        self, frame: pd.DataFrame, categories: Mapping[str, Sequence[str]]
    ) -> pd.DataFrame:
        """Return all columns as float64, with NaN for missing values.

        Texts become the index of their category, or -1, because scikit-learn encodes numbers
        several times as fast as texts.
        """
        numbers = frame[[*self.roles.numbers, *self.roles.booleans]].astype("float64")
        places = {}
        for name, known in categories.items():
            index: Any = pd.Index(list(known), dtype="object")
            place = index.get_indexer(frame[name].astype(object))
            places[name] = np.where(frame[name].isna(), np.nan, place)
        return numbers.join(pd.DataFrame(places, frame.index))

    def _transformer(self, train: pd.DataFrame) -> ColumnTransformer:
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
        """Return the columns with missing training values, which get an indicator."""
        if not self.arguments.add_indicator:
            return []
        imputed = [*self.roles.numbers, *self.roles.booleans]
        if self.arguments.impute == "most_frequent":
            imputed += self.roles.texts
        return [name for name in imputed if train[name].isna().any()]

    def _described(
        self, fitted: ColumnTransformer, counts: Mapping[str, int]
    ) -> Iterator[tuple[str, Column]]:
        """Yield the name and the summary of each feature."""
        roles, strategy = self.roles, self.arguments.impute
        indicated = fitted.transformers[3][2]

        def imputed(name: str, used: str) -> str:
            if not counts[name]:
                return ""
            more = " + indicator" if name in indicated else ""
            return f"{counts[name]:,} missing: {used.replace('_', ' ')}{more}"

        for name in roles.numbers:
            yield name, Column(name, "number", "feature", imputed(name, strategy))
        for name in roles.booleans:
            details = ("0 and 1", imputed(name, "most_frequent"))
            yield name, Column(name, "boolean", "feature", ", ".join(filter(None, details)))
        for place, name in enumerate(roles.texts):
            detail = _categories(fitted.named_transformers_["texts"], place)
            if counts[name] and strategy == "most_frequent":
                detail += f"; {imputed(name, strategy)}"
            elif counts[name]:
                detail += f" + missing ({counts[name]:,})"
            yield name, Column(name, "text", "feature", detail)

    def _missing_notes(self, counts: Mapping[str, int]) -> Iterator[str]:
        strategy = self.arguments.impute.replace("_", " ")
        missing = {name: count for name, count in counts.items() if count}
        apart = () if strategy == "most frequent" else (*self.roles.booleans, *self.roles.texts)
        filled = [name for name in missing if name not in apart]
        booleans = [name for name in missing if name in apart and name in self.roles.booleans]
        texts = [name for name in missing if name in apart and name in self.roles.texts]
        for text, names in (
            (f"missing values become the {strategy} of the training rows", filled),
            ("missing booleans become the most frequent one", booleans),
            ("missing text becomes an extra category", texts),
        ):
            if names:
                yield f"{text}: {_listed({name: missing[name] for name in names})}"


def _listed(counts: Mapping[str, int]) -> str:
    """List names and counts, the first few in full."""
    shown = [f"{name} ({count:,})" for name, count in counts.items()][:_COLUMNS_SHOWN]
    more = len(counts) - len(shown)
    return ", ".join([*shown, *([f"and {counted(more, 'more column')}"] if more else [])])


def _categories(encoder: Any, place: int) -> str:
    """Describe how many categories a text column has, and how many of them share a feature."""
    one_hot = encoder[-1] if hasattr(encoder, "steps") else encoder
    named = np.isfinite(one_hot.categories_[place]).sum()
    rare = one_hot.infrequent_categories_[place]
    text = f"one-hot, {named:,} categories"
    return text if rare is None else f"{text}, the {len(rare):,} rarest as one"
