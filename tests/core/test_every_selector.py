"""The conformance kit of selectors: what every one in the table promises, whatever its rule."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from core.coresets import SELECTORS
from core.coresets.ranking import quotas
from core.coresets.samples import Coreset, Samples, Selector, Sizes
from core.methods import SelectorChoice
from core.rounding import count
from tests.core.harness import digest, each, samples

CHOICES: dict[str, dict[str, object]] = {
    "none": {"name": "none"},
    "random": {"name": "random"},
    "random-balanced": {"name": "random", "balanced": True},
    "gradmatch": {"name": "gradmatch"},
    "gradmatch-absolute": {"name": "gradmatch", "absolute": True},
    "gradmatch-no-ridge": {"name": "gradmatch", "ridge": 0.0},
    "gradmatch-batch": {"name": "gradmatch", "per": "batch", "batch_size": 7},
    "moderate": {"name": "moderate"},
    "moderate-balanced": {"name": "moderate", "balanced": True},
    "el2n": {"name": "el2n"},
    "el2n-balanced": {"name": "el2n", "balanced": True},
    "forgetting": {"name": "forgetting"},
    "forgetting-balanced": {"name": "forgetting", "balanced": True},
    "craig": {"name": "craig"},
    "glister": {"name": "glister"},
    "glister-rounds": {"name": "glister", "rounds": 1000, "step_size": 3.0},
    "glister-balanced": {"name": "glister", "balanced": True},
    "grand": {"name": "grand"},
    "grand-balanced": {"name": "grand", "balanced": True},
    "uncertainty": {"name": "uncertainty"},
    "uncertainty-entropy": {"name": "uncertainty", "kind": "entropy"},
    "uncertainty-margin": {"name": "uncertainty", "kind": "margin"},
    "uncertainty-balanced": {"name": "uncertainty", "balanced": True},
    "herding": {"name": "herding"},
    "kcenter": {"name": "kcenter"},
    "kcenter-balanced": {"name": "kcenter", "balanced": True},
    "ccs": {"name": "ccs"},
    "ccs-forgetting": {"name": "ccs", "score": "forgetting", "cutoff": 0.5, "strata": 1},
    "d2": {"name": "d2"},
    "d2-aum": {"name": "d2", "score": "aum", "neighbours": 100, "cutoff": 0.0},
    "d2-balanced": {"name": "d2", "balanced": True},
    "infobatch": {"name": "infobatch"},
    "emp": {"name": "emp"},
    "emp-balanced": {"name": "emp", "balanced": True},
    "ted": {"name": "ted"},
    "ted-balanced": {"name": "ted", "balanced": True},
    "pbcs": {"name": "pbcs", "rounds": 4},
    "prunefuse": {"name": "prunefuse"},
    "prunefuse-balanced": {"name": "prunefuse", "kind": "entropy", "balanced": True},
}
QUOTAS = (
    "gradmatch",
    "gradmatch-absolute",
    "gradmatch-no-ridge",
    "craig",
    "herding",
    *(choice for choice in CHOICES if choice.endswith("-balanced")),
)
DRAW = (
    "random",
    "random-balanced",
    "gradmatch-batch",
    "forgetting",
    "forgetting-balanced",
    "ccs",
    "ccs-forgetting",
    "d2",
    "d2-balanced",
    "infobatch",
    "pbcs",
)
NO_DRAW = tuple(choice for choice in CHOICES if choice not in (*DRAW, "none", "d2-aum"))
"""The draw of d2-aum decides between equals alone, and there are none."""
N = 60
ADAPTER: TypeAdapter[Selector] = TypeAdapter(SelectorChoice)

every = pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice != "none"])


def choose(choice: str, given: Samples, size: int, progress: float = 0.5, seed: int = 0) -> Coreset:
    selector = ADAPTER.validate_python(CHOICES[choice])
    rng = torch.Generator().manual_seed(seed)
    return selector.select(given, size=size, progress=progress, rng=rng)


def check(coreset: Coreset, size: int, n: int = N, *, exact: bool = True) -> None:
    index_M = coreset.index_M
    assert index_M.dtype == torch.int64
    assert index_M.ndim == 1
    assert len(index_M) == size if exact else size <= len(index_M) <= n
    assert bool((index_M.diff() > 0).all())
    assert set(index_M.tolist()) <= set(range(n))
    if coreset.weight_M is not None:
        assert coreset.weight_M.shape == index_M.shape
        assert bool((coreset.weight_M >= 0).all())
        assert float(coreset.weight_M.mean()) == pytest.approx(1, abs=1e-5)


def choose_and_check(choice: str, given: Samples, size: int, progress: float = 0.5) -> None:
    """A selector whose size is not exact returns no fewer; what it is expected to return is tested with its rule."""
    check(choose(choice, given, size, progress), size, exact=SELECTORS[str(CHOICES[choice]["name"])].exact_size)


def test_every_selector_is_tried() -> None:
    assert {str(choice["name"]) for choice in CHOICES.values()} == set(SELECTORS)


@every
@pytest.mark.parametrize("size", [1, 2, 6, count(0.35, N), 59, N])
@pytest.mark.parametrize("progress", [0.1, 1.0])
def test_the_size_is_exact_and_indices_are_unique_and_ascending(choice: str, size: int, progress: float) -> None:
    choose_and_check(choice, samples(), size, progress)


@every
def test_one_more_than_all_is_refused(choice: str) -> None:
    with pytest.raises(ValueError, match=r"61|60"):
        choose(choice, samples(), N + 1)


@every
def test_an_empty_class(choice: str) -> None:
    choose_and_check(choice, samples(empty=2), 20)


@every
def test_a_class_of_one_sample(choice: str) -> None:
    given = samples()
    labels_N = torch.zeros_like(given.labels_N)
    labels_N[7] = 3
    choose_and_check(choice, replace(given, labels_N=labels_N), 31)


@every
def test_all_samples_alike(choice: str) -> None:
    """Ties everywhere: the size is still exact."""
    given = samples()
    alike = {f.name: getattr(given, f.name) for f in fields(given) if f.name not in ("labels_N", "num_classes")}
    same = {name: value[:1].expand_as(value).clone() for name, value in alike.items() if isinstance(value, Tensor)}
    choose_and_check(choice, replace(given, **same), 13)


@every
def test_perfect_predictions(choice: str) -> None:
    """Zero gradients: nothing to match and nothing to rank by."""
    given = samples()
    sure = 1e4 * torch.nn.functional.one_hot(given.labels_N, 4).float()
    choose_and_check(choice, replace(given, logits_NC=sure), 13)


@every
def test_a_model_that_diverged(choice: str) -> None:
    def break_(value: Tensor) -> Tensor:
        return torch.full_like(value, torch.nan) if value.is_floating_point() else value

    choose_and_check(choice, each(samples(), break_), 13)


@every
def test_a_model_that_diverged_for_some(choice: str) -> None:
    """Not a number, or infinite, in some samples only."""
    given = samples()

    def break_(value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        return value.index_fill(0, torch.tensor([1, 4, 5]), torch.nan).index_fill(0, torch.tensor([2, 7]), torch.inf)

    for size in (1, 13, N):
        choose_and_check(choice, each(given, break_), size)


@pytest.mark.parametrize("choice", QUOTAS)
@pytest.mark.parametrize("size", [5, 21, 59])
def test_class_quotas(choice: str, size: int) -> None:
    given = samples()
    chosen = given.labels_N[choose(choice, given, size).index_M].bincount(minlength=4).tolist()
    assert chosen == quotas(given.labels_N, 4, size)


@pytest.mark.parametrize("choice", NO_DRAW)
def test_order_of_the_data_does_not_matter(choice: str) -> None:
    given = samples()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    moved = replace(each(replace(given, validation=None), lambda value: value[order]), validation=given.validation)
    straight, permuted = choose(choice, given, 12), choose(choice, moved, 12)
    back = order[permuted.index_M].sort()
    assert back.values.tolist() == straight.index_M.tolist()
    if straight.weight_M is not None and permuted.weight_M is not None:
        torch.testing.assert_close(permuted.weight_M[back.indices], straight.weight_M)


@every
def test_the_same_twice(choice: str) -> None:
    assert fingerprint(choice) == fingerprint(choice)


@every
def test_the_generator_matters_where_there_is_a_draw(choice: str) -> None:
    assert (fingerprint(choice) != fingerprint(choice, seed=1)) == (choice in DRAW)


@every
def test_double_precision_chooses_the_same(choice: str) -> None:
    """Float32 numbers given as float64: the same choice, of weights that are float32 again."""
    given = samples()
    straight = choose(choice, given, 12)
    double = choose(choice, each(given, lambda value: value.double() if value.is_floating_point() else value), 12)
    assert double.index_M.tolist() == straight.index_M.tolist()
    if straight.weight_M is not None and double.weight_M is not None:
        torch.testing.assert_close(double.weight_M, straight.weight_M)


def test_another_process_chooses_the_same() -> None:
    root = str(Path(__file__).parents[2])
    code = (
        f"import sys, json, torch; torch.set_num_threads(1); sys.path.insert(0, {root!r}); "
        "import tests.core.test_every_selector as t; "
        "print(json.dumps({c: t.fingerprint(c) for c in t.CHOICES if c != 'none'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {choice: fingerprint(choice) for choice in CHOICES if choice != "none"}


@every
def test_needs_are_enough_and_needed(choice: str) -> None:
    """With what ``needs`` lists a selector works; without it, it says what is missing."""
    given, needs = samples(), ADAPTER.validate_python(CHOICES[choice]).needs
    parts = {
        "logits": ["logits_NC"],
        "features": ["features_ND"],
        "history": ["loss_N", "correct_N", "forgotten_N", "margin_N", "entropy_N"],
        "validation": ["validation"],
        "coreset": ["kept_N"],
        "network": ["apart"],
    }
    dropped = {field: None for need, names in parts.items() if need not in needs for field in names}
    choose_and_check(choice, replace(given, **dropped), 12)
    for need in needs:
        with pytest.raises(ValueError, match=need):
            choose(choice, replace(given, **dict.fromkeys(parts[need])), 12)


@every
def test_nothing_that_is_shown_changes(choice: str) -> None:
    given = samples()
    tensors: list[Tensor] = []
    each(given, lambda value: tensors.append(value) or value)  # type: ignore[func-returns-value]
    torch.manual_seed(3)
    before = digest([*tensors, torch.get_rng_state()])
    choose(choice, given, 12)
    assert digest([*tensors, torch.get_rng_state()]) == before


@every
def test_state_is_plain_tensors_of_the_declared_size_and_can_be_shown_again(choice: str) -> None:
    given, selector = samples(), ADAPTER.validate_python(CHOICES[choice])
    state = choose(choice, given, 12).state
    assert not any(tensor.requires_grad for tensor in state.values())
    assert sum(tensor.nbytes for tensor in state.values()) == 4 * N * selector.tensors_per_sample
    choose_and_check(choice, replace(given, state=state), 12)


@every
@pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0])
def test_shares_lie_between_alpha_and_all_and_end_there(choice: str, ratio: float) -> None:
    selector = ADAPTER.validate_python(CHOICES[choice])
    for progress in (0.01, 0.3, 0.8, 1.0):
        share, foretold = selector.share(ratio, progress), selector.foretold(ratio, progress)
        assert ratio <= share <= foretold <= 1
        assert not selector.exact_size or foretold == share
    assert min(selector.share(ratio, progress / 100) for progress in range(1, 101)) == ratio


@pytest.mark.parametrize("name", SELECTORS)
def test_the_table_describes_itself(name: str) -> None:
    cls = SELECTORS[name]
    assert cls().name == name
    assert cls.summary
    assert cls.source or name in ("none", "random")
    assert cls.cost.startswith("a forward pass") == bool(cls.needs & {"logits", "features"})
    assert hash(cls()) == hash(cls())
    with pytest.raises(ValidationError, match="speed"):
        cls(speed=1)  # type: ignore[call-arg]


def test_selector_none_keeps_all_or_says_so() -> None:
    check(choose("none", samples(), N), N)
    with pytest.raises(ValueError, match="keeps all 60 samples and cannot choose 6"):
        choose("none", samples(), 6)


@pytest.mark.gpu
@every
def test_cuda_equals_cpu(choice: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    given = samples()
    straight, other = choose(choice, given, 12), choose(choice, each(given, Tensor.cuda), 12)
    assert other.index_M.is_cuda
    assert other.index_M.tolist() == straight.index_M.tolist()
    if straight.weight_M is not None and other.weight_M is not None:
        torch.testing.assert_close(other.weight_M.cpu(), straight.weight_M)


def fingerprint(choice: str, seed: int = 0) -> str:
    coreset = choose(choice, samples(), 12, seed=seed)
    return digest([coreset.index_M] + ([] if coreset.weight_M is None else [coreset.weight_M]))


@every
def test_what_it_computes_is_counted_and_grows_with_the_samples(choice: str) -> None:
    selector = ADAPTER.validate_python(CHOICES[choice])
    small, large = (selector.arithmetic(Sizes(n, n // 10, 10, 64, n // 10)) for n in (1_000, 2_000))
    looks = bool(selector.needs & {"logits", "features"})
    assert 0 < small < large if looks else small == large == 0 or 0 < small < large


@pytest.mark.parametrize("choice", ["craig", "glister", "ted", "pbcs"])
def test_what_it_computes_is_what_torch_counts(choice: str) -> None:
    """Where the work is products of matrices, which torch counts too: to a third, as classes are not quite equal."""
    total, classes, features = 1_200, 4, 48
    rng = torch.Generator().manual_seed(0)
    labels_N = torch.arange(total) % classes
    seen = Samples(
        labels_N,
        classes,
        logits_NC=torch.randn(total, classes, generator=rng),
        features_ND=torch.randn(total, features, generator=rng),
        kept_N=labels_N == 0,
    )
    validation = Samples(labels_N[:200], classes, seen.logits_NC[:200], seen.features_ND[:200])  # type: ignore[index]
    selector = ADAPTER.validate_python({**CHOICES[choice], "name": choice})
    with FlopCounterMode(display=False) as counter:
        selector.select(replace(seen, validation=validation), size=240, progress=0.3, rng=rng)
    foretold = selector.arithmetic(Sizes(total, 240, classes, features, 200))
    assert counter.get_total_flops() == pytest.approx(foretold, rel=1 / 3)
