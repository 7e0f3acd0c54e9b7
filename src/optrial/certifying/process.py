"""The process in which a certificate is made; see `certify_apart`."""

from __future__ import annotations

import traceback

from optrial.certifying.apart import Broken, Note, Question, Refused, Request, Stopped
from optrial.certifying.conformance import certify
from optrial.certifying.findings import Certificate
from optrial.child import Parent
from optrial.code import Trust, place_of_error
from optrial.errors import OptrialError, one_line
from optrial.user_output import collected
from optrial.watching import TimedOut, Watch

__all__ = ["main"]


class _Parent(Parent):
    """The process that waits for the certificate."""

    def tell(self, text: str) -> None:
        self.send(Note(text))

    def ask(self, text: str) -> bool:
        self.send(Question(text))
        return self.receive() is True

    def give_up(self, reason: str) -> None:
        self.send(Stopped(reason, timed_out=True))


def main(descriptor: int) -> None:
    """Make the certificate that the parent requests.

    Args:
        descriptor: descriptor of the connection.
    """
    parent = _Parent(descriptor)
    request = parent.receive()
    assert isinstance(request, Request)
    parent.send(_answer(request, parent))


def _answer(request: Request, parent: _Parent) -> Certificate | Refused | Stopped | Broken:
    try:
        with collected(parent.tell):  # also what is left of it at the end
            return _certificate(request, parent)
    except OptrialError as error:
        return Refused(str(error))
    except TimedOut as error:
        return Stopped(str(error), timed_out=True)
    except BaseException as error:  # noqa: BLE001  user code may raise anything
        if place := place_of_error(error):
            return Stopped(f"user code raised {one_line(error)}, in {place}")
        return Broken("".join(traceback.format_exception(error)))


def _certificate(request: Request, parent: _Parent) -> Certificate:
    with (
        Watch(lambda _: None, request.timeout, parent.give_up) as watch,
        watch.busy(f"certifying {request.target}", limited=True),
    ):

        def ask(question: str) -> bool:
            with watch.busy("waiting for an answer"):
                return parent.ask(question)

        return certify(
            request.target,
            request.against,
            seed=request.seed,
            draws=request.draws,
            compiled=request.compiled,
            arguments=dict(request.arguments),
            trust=Trust(request.places, ask=ask if request.asks else None, tell=parent.tell),
        )
