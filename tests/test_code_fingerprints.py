"""Fingerprints differ where what is run differs; where it does not, every process has the same."""

# ruff: noqa: E501  cells read best with one statement to a line

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from optrial.code import Unidentifiable, fingerprint
from optrial.supervision import supervised

PRELUDE = """
import abc, collections, contextlib, dataclasses, enum, functools, logging, random, re, typing
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
"""

PAIRS: dict[str, tuple[str, str]] = {
    "a constant in the body": ("def thing(): return 1", "def thing(): return 2"),
    "an operator": ("def thing(x): return x + 1", "def thing(x): return x - 1"),
    "a default": ("def thing(x=1): return x", "def thing(x=2): return x"),
    "a keyword's default": ("def thing(*, x=1): return x", "def thing(*, x=2): return x"),
    "a mutable default": ("def thing(x=[1]): return x", "def thing(x=[2]): return x"),
    "a type": ("def thing(x=1): return x", "def thing(x=True): return x"),
    "a sign of zero": ("def thing(x=0.0): return x", "def thing(x=-0.0): return x"),
    "a lambda": ("thing = lambda: 1", "thing = lambda: 2"),
    "a name that is called": ("def thing(x): return abs(x)", "def thing(x): return min(x)"),
    "an attribute of a library": (
        "def thing(x): return F.relu(x)",
        "def thing(x): return F.gelu(x)",
    ),
    "a comprehension": (
        "def thing(): return [i for i in range(3)]",
        "def thing(): return [i + 1 for i in range(3)]",
    ),
    "a global": ("width = 1\ndef thing(): return width", "width = 2\ndef thing(): return width"),
    "a global of a nested function": (
        "width = 1\ndef thing(): return lambda: width",
        "width = 2\ndef thing(): return lambda: width",
    ),
    "a helper": (
        "def helper(): return 1\ndef thing(): return helper()",
        "def helper(): return 2\ndef thing(): return helper()",
    ),
    "a helper's helper": (
        "def deep(): return 1\ndef helper(): return deep()\ndef thing(): return helper()",
        "def deep(): return 2\ndef helper(): return deep()\ndef thing(): return helper()",
    ),
    "a helper that calls back": (
        "def helper(): return thing, 1\ndef thing(): return helper()",
        "def helper(): return thing, 2\ndef thing(): return helper()",
    ),
    "a global dictionary": (
        "table = {'a': [1]}\ndef thing(): return table",
        "table = {'a': [2]}\ndef thing(): return table",
    ),
    "a global tensor": (
        "scale = torch.ones(3)\ndef thing(): return scale",
        "scale = torch.tensor([1.0, 1.0, 2.0])\ndef thing(): return scale",
    ),
    "a builtin that is hidden": (
        "def thing(x): return abs(x)",
        "def abs(x): return 1\ndef thing(x): return abs(x)",
    ),
    "a closure": (
        "def make(width):\n  def inner(): return width\n  return inner\nthing = make(1)",
        "def make(width):\n  def inner(): return width\n  return inner\nthing = make(2)",
    ),
    "a function in a closure": (
        "def make(f):\n  return lambda: f()\nthing = make(lambda: 1)",
        "def make(f):\n  return lambda: f()\nthing = make(lambda: 2)",
    ),
    "an array in a closure": (
        "def make(a):\n  return lambda: a\nthing = make(np.arange(3))",
        "def make(a):\n  return lambda: a\nthing = make(np.arange(3.0))",
    ),
    "a partial's keyword": (
        "def net(width): return width\nthing = functools.partial(net, width=2)",
        "def net(width): return width\nthing = functools.partial(net, width=128)",
    ),
    "a partial's argument": (
        "thing = functools.partial(torch.optim.SGD, momentum=0.9)",
        "thing = functools.partial(torch.optim.SGD, momentum=0.8)",
    ),
    "a partial's function": (
        "thing = functools.partial(torch.optim.SGD, lr=0.1)",
        "thing = functools.partial(torch.optim.Adam, lr=0.1)",
    ),
    "a partial of a partial": (
        "thing = functools.partial(functools.partial(max, 1), 3)",
        "thing = functools.partial(functools.partial(max, 2), 3)",
    ),
    "an attribute of an instance": (
        "class C:\n  def __init__(self, w): self.w = w\n  def __call__(self): return self.w\nthing = C(1)",
        "class C:\n  def __init__(self, w): self.w = w\n  def __call__(self): return self.w\nthing = C(2)",
    ),
    "a slot": (
        "class C:\n  __slots__ = ('w',)\n  def __init__(self, w): self.w = w\nthing = C(1)",
        "class C:\n  __slots__ = ('w',)\n  def __init__(self, w): self.w = w\nthing = C(2)",
    ),
    "a state that pickle would drop": (
        "class C:\n  def __init__(self, w): self.w = w\n  def __getstate__(self): return {}\nthing = C(1)",
        "class C:\n  def __init__(self, w): self.w = w\n  def __getstate__(self): return {}\nthing = C(2)",
    ),
    "the object of a bound method": (
        "class C:\n  def __init__(self, w): self.w = w\n  def f(self): return self.w\nthing = C(1).f",
        "class C:\n  def __init__(self, w): self.w = w\n  def f(self): return self.w\nthing = C(2).f",
    ),
    "the method that is bound": (
        "class C:\n  def f(self): return 1\n  def g(self): return 2\nthing = C().f",
        "class C:\n  def f(self): return 1\n  def g(self): return 2\nthing = C().g",
    ),
    "a subclass of a dictionary": (
        "class D(dict): pass\nthing = D(a=1)",
        "class D(dict): pass\nthing = D(a=2)",
    ),
    "a subclass of a number": (
        "class N(float): pass\nthing = N(1)",
        "class N(float): pass\nthing = N(2)",
    ),
    "a decorated method": (
        "class thing(torch.optim.Optimizer):\n  @torch.no_grad()\n  def step(self): return 1",
        "class thing(torch.optim.Optimizer):\n  @torch.no_grad()\n  def step(self): return 2",
    ),
    "a method under a user decorator": (
        "def d(f):\n  @functools.wraps(f)\n  def w(*a): return f(*a)\n  return w\n"
        "class thing:\n  @d\n  def step(self): return 1",
        "def d(f):\n  @functools.wraps(f)\n  def w(*a): return f(*a)\n  return w\n"
        "class thing:\n  @d\n  def step(self): return 2",
    ),
    "a user decorator": (
        "def d(f):\n  @functools.wraps(f)\n  def w(*a): return f(*a)\n  return w\n@d\ndef thing(): return 1",
        "def d(f):\n  @functools.wraps(f)\n  def w(*a): return -f(*a)\n  return w\n@d\ndef thing(): return 1",
    ),
    "a static method": (
        "class thing:\n  @staticmethod\n  def f(): return 1",
        "class thing:\n  @staticmethod\n  def f(): return 2",
    ),
    "a class method": (
        "class thing:\n  @classmethod\n  def f(cls): return 1",
        "class thing:\n  @classmethod\n  def f(cls): return 2",
    ),
    "a property": (
        "class thing:\n  @property\n  def f(self): return 1",
        "class thing:\n  @property\n  def f(self): return 2",
    ),
    "a cached property": (
        "class thing:\n  @functools.cached_property\n  def f(self): return 1",
        "class thing:\n  @functools.cached_property\n  def f(self): return 2",
    ),
    "a cached function": (
        "@functools.lru_cache\ndef thing(): return 1",
        "@functools.lru_cache\ndef thing(): return 2",
    ),
    "a context manager": (
        "@contextlib.contextmanager\ndef thing(): yield 1",
        "@contextlib.contextmanager\ndef thing(): yield 2",
    ),
    "a single dispatch": (
        "@functools.singledispatch\ndef thing(x): return 1\n@thing.register\ndef _(x: int): return 2",
        "@functools.singledispatch\ndef thing(x): return 1\n@thing.register\ndef _(x: int): return 3",
    ),
    "a compiled function": (
        "@torch.compile(backend='eager')\ndef thing(x): return x + 1",
        "@torch.compile(backend='eager')\ndef thing(x): return x + 2",
    ),
    "a wrapper of a compiled function": (
        "@torch.compile(backend='eager')\ndef f(x): return x\n"
        "@functools.wraps(f)\ndef thing(x): return f(x) + 1",
        "@torch.compile(backend='eager')\ndef f(x): return x\n"
        "@functools.wraps(f)\ndef thing(x): return f(x) + 2",
    ),
    "a compiled model": (
        "thing = torch.compile(nn.Softmax(0), backend='eager')",
        "thing = torch.compile(nn.Softmax(1), backend='eager')",
    ),
    "a long integer": ("thing = 10 ** 5000", "thing = 10 ** 5000 + 1"),
    "an attribute of a class": ("class thing:\n  w = 1", "class thing:\n  w = 2"),
    "a base class": (
        "class B(nn.Module):\n  def forward(self, x): return x\nclass thing(B): pass",
        "class B(nn.Module):\n  def forward(self, x): return -x\nclass thing(B): pass",
    ),
    "a base class of a library": ("class thing(nn.ReLU): pass", "class thing(nn.GELU): pass"),
    "a class within a function": (
        "def thing():\n  class C:\n    w = 1\n  return C",
        "def thing():\n  class C:\n    w = 2\n  return C",
    ),
    "a class of a factory": (
        "thing = type('T', (nn.Module,), {'w': 1, 'forward': lambda self, x: x})",
        "thing = type('T', (nn.Module,), {'w': 1, 'forward': lambda self, x: -x})",
    ),
    "a class that a closure made": (
        "def make(w):\n  class C:\n    def f(self): return w\n  return C\nthing = make(1)",
        "def make(w):\n  class C:\n    def f(self): return w\n  return C\nthing = make(2)",
    ),
    "a dataclass": (
        "@dataclasses.dataclass\nclass thing:\n  w: int = 1",
        "@dataclasses.dataclass\nclass thing:\n  w: int = 2",
    ),
    "a dataclass's instance": (
        "@dataclasses.dataclass(frozen=True)\nclass C:\n  w: int = 1\nthing = C(1)",
        "@dataclasses.dataclass(frozen=True)\nclass C:\n  w: int = 1\nthing = C(2)",
    ),
    "a named tuple": (
        "P = collections.namedtuple('P', 'a b')\nthing = P(1, 2)",
        "P = collections.namedtuple('P', 'a b')\nthing = P(2, 1)",
    ),
    "an enumeration": (
        "class E(enum.Enum):\n  A = 1\n  B = 2\ndef thing(): return E.A",
        "class E(enum.Enum):\n  A = 2\n  B = 1\ndef thing(): return E.A",
    ),
    "a model's structure": (
        "thing = nn.Sequential(nn.ReLU(), nn.Tanh())",
        "thing = nn.Sequential(nn.Tanh(), nn.ReLU())",
    ),
    "a model's weight": (
        "thing = nn.Linear(1, 1)\nnn.init.constant_(thing.weight, 1)\nnn.init.zeros_(thing.bias)",
        "thing = nn.Linear(1, 1)\nnn.init.constant_(thing.weight, 2)\nnn.init.zeros_(thing.bias)",
    ),
    "a model's mode": ("thing = nn.ReLU()", "thing = nn.ReLU().eval()"),
    "a model's option": ("thing = nn.Dropout(0.1)", "thing = nn.Dropout(0.2)"),
    "a model's hook": (
        "thing = nn.ReLU()\nthing.register_forward_hook(lambda *a: 1)",
        "thing = nn.ReLU()\nthing.register_forward_hook(lambda *a: 2)",
    ),
    "a handle of a hook": (
        "m = nn.ReLU()\nm.handle = m.register_forward_hook(lambda *a: 1)\ndef thing(): return m",
        "m = nn.ReLU()\nm.handle = m.register_forward_hook(lambda *a: 2)\ndef thing(): return m",
    ),
    "a frozen weight": (
        "thing = torch.nn.Parameter(torch.ones(2))",
        "thing = torch.nn.Parameter(torch.ones(2), requires_grad=False)",
    ),
    "a function of autograd": (
        "class Fn(torch.autograd.Function):\n  @staticmethod\n  def forward(ctx, x): return x\n"
        "def thing(x): return Fn.apply(x)",
        "class Fn(torch.autograd.Function):\n  @staticmethod\n  def forward(ctx, x): return -x\n"
        "def thing(x): return Fn.apply(x)",
    ),
    "a set": ("thing = {'a', 'bb', 'c'}", "thing = {'a', 'bb', 'd'}"),
    "a set of functions": (
        "def f(): return 1\nS = {f}\ndef thing(): return S",
        "def f(): return 2\nS = {f}\ndef thing(): return S",
    ),
    "a generator of random numbers": (
        "thing = np.random.default_rng(1)",
        "thing = np.random.default_rng(2)",
    ),
    "a generator of torch": (
        "thing = torch.Generator().manual_seed(1)",
        "thing = torch.Generator().manual_seed(2)",
    ),
    "a logger": ("thing = logging.getLogger('a')", "thing = logging.getLogger('b')"),
    "a type of numbers": ("thing = torch.float32", "thing = torch.float64"),
    "a tensor of half precision": (
        "thing = torch.ones(2).bfloat16()",
        "thing = torch.zeros(2).bfloat16()",
    ),
    "a complex tensor": ("thing = torch.ones(2) * 1j", "thing = -torch.ones(2) * 1j"),
    "a sparse tensor": ("thing = torch.eye(2).to_sparse()", "thing = torch.ones(2, 2).to_sparse()"),
    "a shape": ("thing = np.zeros((2, 3))", "thing = np.zeros((3, 2))"),
    "an array of objects": (
        "thing = np.array([1, None, 'a'], dtype=object)",
        "thing = np.array([1, None, 'b'], dtype=object)",
    ),
    "a regular expression": ("thing = re.compile('a')", "thing = re.compile('a', re.IGNORECASE)"),
    "a ufunc of another package": (
        "from scipy.special import expit as f\ndef thing(x): return f(x)",
        "from scipy.special import logit as f\ndef thing(x): return f(x)",
    ),
    "limits of a type": (
        "thing = torch.finfo(torch.float32)",
        "thing = torch.finfo(torch.float64)",
    ),
    "an attribute of an array": (
        "class A(np.ndarray): pass\nthing = np.ones(2).view(A)\nthing.w = 1",
        "class A(np.ndarray): pass\nthing = np.ones(2).view(A)\nthing.w = 2",
    ),
    "a layer without sizes": ("thing = nn.LazyLinear(2)", "thing = nn.LazyLinear(2, bias=False)"),
    "a context manager's option": (
        "mixed = torch.autocast('cpu')\ndef thing(): return mixed",
        "mixed = torch.autocast('cpu', enabled=False)\ndef thing(): return mixed",
    ),
    "a value in place of a cached property": (
        "class C:\n  w = functools.cached_property(lambda self: 1)\nthing = C()\nthing.w = 2",
        "class C:\n  w = functools.cached_property(lambda self: 1)\nthing = C()\nthing.w = 3",
    ),
    "a name that is not there yet": (
        "def thing(): return later",
        "def thing(): return later\nlater = 1",
    ),
}


def made_by(source: str, name: str = "__main__") -> Any:
    """The object called `thing` of a cell, run in a namespace of its own."""
    scope: dict[str, Any] = {"__name__": name}
    exec(compile(PRELUDE, "<ipython-input-0>", "exec"), scope)
    exec(compile(source, f"<ipython-input-{id(scope)}>", "exec"), scope)
    return scope["thing"]


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_what_differs_has_another_fingerprint(one: str, other: str) -> None:
    assert fingerprint(made_by(one)) != fingerprint(made_by(other))


@pytest.mark.parametrize("source", [one for one, _ in PAIRS.values()], ids=PAIRS)
def test_a_cell_that_is_run_again_keeps_its_fingerprint(source: str) -> None:
    first = made_by(source)
    # Elsewhere in a file, and after others, as a second run in a notebook is.
    second = made_by("\n\n\nother = [object() for _ in range(100)]\n" + source)
    assert fingerprint(first) == fingerprint(second) == fingerprint(first)


@pytest.mark.slow
def test_every_process_computes_the_same(tmp_path: Path) -> None:
    """In another order, with another hash seed, where all addresses are others."""
    script = (
        "import json, sys\n"
        "from tests.test_code_fingerprints import PAIRS, fingerprint, made_by\n"
        "names = [n for n in sorted(PAIRS, reverse=sys.argv[1] == '1') if 'compiled' not in n]\n"
        "print(json.dumps({n: [fingerprint(made_by(s)) for s in PAIRS[n]] for n in names}))"
    )
    answers = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", script, seed]
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
        )
        answers.append(json.loads(answer.stdout))
    assert answers[0] == answers[1]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=3)
        | st.frozensets(st.integers() | st.text(), max_size=4)
    ),
    max_leaves=8,
)


def holding(value: Any) -> Iterator[Any]:
    """Everything that can hold a value."""

    class Holder:
        def __init__(self) -> None:
            self.value = value

        def __call__(self) -> Any:
            return self.value

    def default(x: Any = value) -> Any:
        return x

    yield functools.partial(max, key=value)
    yield lambda: value
    yield default
    yield Holder()
    yield Holder().__call__
    yield type("Made", (), {"value": value})


@given(VALUES, VALUES)
@settings(deadline=None, max_examples=60)
def test_holders_are_told_apart_by_what_they_hold(one: Any, other: Any) -> None:
    same = repr(one) == repr(other)
    for left, right in zip(holding(one), holding(other), strict=True):
        assert (fingerprint(left) == fingerprint(right)) == same


@given(st.lists(st.text(), unique=True, min_size=1), st.randoms())
@settings(deadline=None, max_examples=60)
def test_the_order_of_a_set_does_not_count(items: list[str], random: Any) -> None:
    shuffled = random.sample(items, len(items))
    assert fingerprint(set(items)) == fingerprint(set(shuffled))


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5), st.integers(0, 4))
@settings(deadline=None, max_examples=60)
def test_every_number_of_a_tensor_counts(values: list[float], place: int) -> None:
    changed = list(values)
    changed[place % len(values)] += 1.0
    one, other = (torch.tensor(v, dtype=torch.float64) for v in (values, changed))
    assert (fingerprint(one) == fingerprint(other)) == torch.equal(one, other)
    assert fingerprint(one) == fingerprint(one.clone())
    assert fingerprint(one.numpy()) == fingerprint(np.array(values))


def test_a_library_counts_by_name_however_it_is_reached() -> None:
    sources = (
        "def thing(x): return F.relu(np.random.rand() + random.random() + x)",
        "from torch.nn.functional import relu\nfrom numpy.random import rand\n"
        "from random import random, uniform\ndef thing(x): return relu(rand() + random() + x)",
    )
    for source in sources:
        before = fingerprint(made_by(source))
        np.random.rand(), torch.rand(1), np.random.shuffle([1, 2])
        assert fingerprint(made_by(source)) == before


def test_a_patch_of_a_library_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By way of a module, and in a method of a class."""
    source = "class thing(nn.Module):\n  def forward(self, x): return F.relu(nn.Linear(1, 1)(x))"
    before, relu = fingerprint(made_by(source)), nn.functional.relu
    with monkeypatch.context() as patched:
        patched.setattr(nn.functional, "relu", lambda x: x)
        assert fingerprint(made_by(source)) != before
        patched.setattr(nn.functional, "relu", functools.wraps(relu)(lambda x: x))
        assert fingerprint(made_by(source)) != before
    with monkeypatch.context() as patched:
        patched.setattr(nn.Linear, "forward", lambda self, x: x)
        assert fingerprint(made_by(source)) != before
    assert fingerprint(made_by(source)) == before


@pytest.mark.parametrize(
    ("source", "use"),
    [
        (
            "class C:\n  @functools.cached_property\n  def w(self): return [1]\nthing = C()",
            lambda thing: thing.w,
        ),
        (
            "class C(nn.Module):\n  @functools.cached_property\n  def w(self): return torch.ones(2)\n"
            "thing = C()",
            lambda thing: thing.w,
        ),
        (
            "class thing(nn.Module):\n  @torch.autocast('cpu')\n  def forward(self, x): return x",
            lambda thing: thing()(1),
        ),
        *(
            (f"mode = {mode}\ndef thing():\n  with mode: return 1", lambda thing: thing())
            for mode in (
                *("torch.autocast('cpu')", "torch.no_grad()", "torch.enable_grad()"),
                *("torch.inference_mode()", "torch.profiler.record_function('f')"),
            )
        ),
        ("class thing(enum.Flag):\n  A = 1\n  B = 2", lambda thing: thing.A | thing.B),
        ("thing = nn.ReLU()\nthing.weight = nn.Parameter(torch.ones(2))",
         lambda thing: thing.weight.sum().backward()),
    ],
)  # fmt: skip
def test_use_leaves_nothing_behind_in_a_fingerprint(source: str, use: Callable[[Any], Any]) -> None:
    thing = made_by(source)
    before = fingerprint(thing)
    use(thing)
    assert fingerprint(thing) == before == fingerprint(made_by(source))


def test_use_leaves_a_fingerprint_as_it_is() -> None:
    source = (
        "@functools.lru_cache\ndef scale(n): return n + 1\n"
        "class thing(nn.Module):\n"
        "  def __init__(self):\n    super().__init__()\n    self.layer = nn.LSTM(2, 3)\n"
        "  def forward(self, x): return F.relu(self.layer(x)[0]) * scale(3)"
    )
    kind = made_by(source)
    before = fingerprint(kind)
    model = kind()
    model(torch.zeros(4, 2)).sum().backward()
    repr(model)
    assert fingerprint(kind) == before
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    twin = made_by(source)()
    twin.load_state_dict(state)
    assert fingerprint(twin) == fingerprint(model)


def test_compiling_leaves_a_fingerprint_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    before = fingerprint(model)
    torch.compile(model, backend="eager")(torch.zeros(4, 2))
    assert fingerprint(model) == before
    model.compile(backend="eager")
    assert fingerprint(model) == before


def _generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: path.open("w"), "TextIOWrapper"),
        (lambda path: _generator(), "generator"),
        (lambda path: threading.Lock(), "lock"),
        (lambda path: memoryview(b"1"), "memoryview"),
        (lambda path: torch.jit.script(nn.ReLU()), "RecursiveScriptModule"),
        (lambda path: np.frompyfunc(lambda x: x, 1, 1), "ufunc"),
        (lambda path: {}.keys(), "dict_keys"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_state_that_cannot_be_read_is_refused(
    make: Callable[[Path], Any], kind: str, tmp_path: Path
) -> None:
    held = make(tmp_path / "log")
    try:
        for holder in holding(held):
            with pytest.raises(Unidentifiable, match=f"a {kind}, and its state cannot be read"):
                fingerprint(holder)
    finally:
        if hasattr(held, "close"):
            held.close()


def test_an_object_that_fails_when_it_is_read_is_refused() -> None:
    source = (
        "class Broken:\n  def __reduce__(self): raise RuntimeError('no')\n"
        "  @property\n  def __dict__(self): raise KeyError('none')\nthing = Broken()"
    )
    with pytest.raises(Unidentifiable, match="reading it raised KeyError: 'none'"):
        fingerprint(made_by(source))


def test_an_error_names_the_way_to_what_cannot_be_read() -> None:
    source = (
        "import threading\nclass Trunk:\n  def __init__(self): self.parts = {'lock': threading.Lock()}\n"
        "trunk = Trunk()\ndef helper(): return trunk\ndef thing(): return helper()"
    )
    with pytest.raises(Unidentifiable, match=r"^helper > trunk > \.parts > \['lock'\] > "):
        fingerprint(made_by(source))


def test_a_nested_structure_is_read_or_refused() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(Unidentifiable, match="nested too deeply"):
        fingerprint(deep)
    functions = "\n".join(f"def f{i}(): return f{i + 1}()" for i in range(2000))
    source = f"{functions}\ndef f2000(): return 1\nthing = f0"
    changed = source.replace("return 1", "return 2", -1)
    assert fingerprint(made_by(source)) != fingerprint(made_by(changed))


@pytest.mark.parametrize(
    "body",
    [
        "def step(self, closure=None): return super().step()",
        "marker = 1  # the step is inherited",
    ],
)
@pytest.mark.parametrize("base", ["torch.optim.SGD", "Middle"])
def test_building_an_optimizer_leaves_a_fingerprint_as_it_is(body: str, base: str) -> None:
    """PyTorch wraps the `step` of a class when it first builds an instance."""
    scope: dict[str, Any] = {"torch": torch}
    exec("class Middle(torch.optim.Optimizer):\n    def step(self): return 0", scope)
    exec(f"class Mine({base}):\n    {body}", scope)
    before = fingerprint(scope["Mine"])
    scope["Mine"]([torch.zeros(1, requires_grad=True)], **_arguments(base))
    assert fingerprint(scope["Mine"]) == before


def _arguments(base: str) -> dict[str, Any]:
    return {"lr": 0.1} if base == "torch.optim.SGD" else {"defaults": {}}


def leaving() -> None:
    print("bye", file=sys.stdout)  # noqa: T201
    warnings.warn("bye", stacklevel=2)
    sys.stderr.write(str(Path.cwd()))
    os._exit(0)


def test_code_has_one_hash_wherever_optrial_takes_it() -> None:
    """What optrial replaces around user code, such as the streams, is no part of that code."""
    outside = fingerprint(leaving)
    with supervised("hashing"):
        assert fingerprint(leaving) == outside
