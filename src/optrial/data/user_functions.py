"""Dataset functions of the user: ``module:function``."""

from __future__ import annotations

import inspect

from optrial.code import importable_from_here, load_code
from optrial.data.arguments import FunctionArguments
from optrial.data.objects import split_objects
from optrial.data.source import Source
from optrial.errors import USER_CODE_ERRORS, DataError, one_line

__all__ = ["call_function"]


def call_function(name: str, arguments: FunctionArguments) -> Source:
    """Import ``module:function``, from the current folder too, and call it.

    Returns:
        the splits of what the function returned, as `split_objects` takes it.

    Raises:
        DataError: it cannot be imported or does not take the arguments, it raised, or it returned
            something else.
    """
    try:
        function = load_code(name)
    except ImportError as error:
        raise DataError(f"dataset {error}") from error
    try:
        signature = inspect.signature(function)
        signature.bind(**arguments.own)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"dataset '{name}' cannot be called: {error}; change its arguments"
        ) from error
    reserved = arguments.model_fields_set & set(signature.parameters) - set(arguments.own)
    if reserved:
        raise DataError(
            f"dataset '{name}' has a parameter '{min(reserved)}', which is a key of every dataset "
            "and not passed on; rename the parameter"
        )
    try:
        with importable_from_here():
            result = function(**arguments.own)
    except USER_CODE_ERRORS as error:
        raise DataError(
            f"dataset '{name}' raised {one_line(error)}; correct the function or its arguments"
        ) from error
    return Source(split_objects(name, result))
