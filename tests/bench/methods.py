"""Selectors: seconds, memory and FLOP of choosing 10 % of 50 000 samples, and the same choice by other means.

    python tests/bench/methods.py [--only craig d2] [--repeats 5] [--threads 2]

50 000 samples of 10 classes, 512 features each, a made-up history and a validation split of 5 000. Every measurement
has a process of its own. Seconds: median and range after a first run on a tenth of the samples, which loads the
kernels; a run during which other processes used more than 5 % of the machine is made again, up to twice, and the last
column says how much they used at most in those that count. Memory: the largest resident size during the first full run,
looked at every 2 ms, less that before it. FLOP: matrix products, distances and norms by formula, 2 per multiply-add;
sorting and elementwise work are not counted. Of what chooses in every epoch the last columns count all 20 choices.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine import header, row, spread
from numpy.typing import NDArray

from core.config import CellConfig
from core.coresets import SELECTORS
from core.coresets.gradients import Gradients
from core.coresets.inputs import error_of
from core.coresets.samples import Samples, Sizes
from core.data.load import load_bundle
from core.data.source import Facts
from core.flops import forward_flops, training_flops
from core.macs import measure
from core.models import MODELS
from core.trainer import Trainer
from sweeps.costs import _beside as copy_of
from sweeps.costs import network

N, M, C, D, V = 50_000, 5_000, 10, 512, 5_000
EPOCHS = 20
SLOW = 20.0
"""Seconds from which on a measurement is not repeated."""
QUIET = 0.05
"""Share of the machine that other processes may use during a measurement."""
ATTEMPTS = 3
"""Of a measurement that is disturbed; the last one counts as it is."""
PATIENCE = 40
"""Half seconds that are waited for the machine to be quiet, before each attempt."""

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """A selector with its settings, and the same choice by other means, described."""

    selector: str
    how: str
    other: Callable[[Samples], Index]
    settings: dict[str, Any] | None = None
    share: int = 1
    """The other means choose from one class of so many; their seconds are multiplied by it."""

    @property
    def flop(self) -> float:
        """Of its choice."""
        return SELECTORS[self.selector](**(self.settings or {})).arithmetic(Sizes(N, M, C, D, V))


def made_up(n: int = N) -> Samples:
    """Clustered features, logits of a linear layer on them, random history."""
    draw = torch.Generator().manual_seed(0)
    labels_N = torch.randint(C, (n,), generator=draw)
    centre_CD = torch.randn(C, D, generator=draw)
    features_ND = torch.randn(n, D, generator=draw).add_(0.7 * centre_CD[labels_N]).relu_()
    logits_NC = features_ND @ (centre_CD - centre_CD.mean(0)).T / 50
    some = slice(0, max(1, n * V // N))
    return Samples(
        labels_N=labels_N,
        num_classes=C,
        logits_NC=logits_NC,
        features_ND=features_ND,
        correct_N=torch.rand(n, generator=draw) < 0.6,
        forgotten_N=torch.randint(6, (n,), generator=draw),
        margin_N=2 * torch.rand(n, generator=draw) - 1,
        validation=Samples(labels_N[some], C, logits_NC[some], features_ND[some]),
        loss_N=-torch.rand(n, generator=draw).log(),
        entropy_N=2 * torch.rand(n, generator=draw),
        kept_N=torch.rand(n, generator=draw) < 0.3,
    )


# --- the same choices by other means ---------------------------------------------------------------------------------


def arrays(given: Samples) -> tuple[Any, Any, Any]:
    """p - y, features and labels in numpy."""
    labels = given.labels_N.numpy()
    logits = given.logits_NC.numpy()  # type: ignore[union-attr]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p - np.eye(C, dtype=p.dtype)[labels], given.features_ND.numpy(), labels  # type: ignore[union-attr]


def first(scores: Any, size: int) -> Index:
    """The largest scores."""
    return np.asarray(np.argsort(-scores, kind="stable")[:size])


def shares(labels: Any, size: int) -> Iterator[tuple[Index, int]]:
    """Every class and its quota, rounded."""
    for label in range(C):
        index = np.flatnonzero(labels == label)
        yield index, round(size * len(index) / len(labels))


def other_random(given: Samples) -> Index:
    """numpy's choice without replacement."""
    return np.random.default_rng(0).choice(len(given.labels_N), wanted(given), replace=False)


def other_el2n(given: Samples) -> Index:
    """Norms and a sort."""
    return first(np.linalg.norm(arrays(given)[0], axis=1), wanted(given))


def other_grand(given: Samples) -> Index:
    """Every gradient formed, in batches of 256, as a loop over a data loader would."""
    error, features, labels = arrays(given)
    norms = []
    for start in range(0, len(labels), 256):
        part = slice(start, start + 256)
        gradient = error[part, :, None] * features[part, None, :]
        norms.append(np.sqrt(np.square(gradient).sum((1, 2)) + np.square(error[part]).sum(1)))
    return first(np.concatenate(norms), wanted(given))


def other_uncertainty(given: Samples) -> Index:
    """The largest probability and a sort."""
    error, _, labels = arrays(given)
    p = error + np.eye(C, dtype=error.dtype)[labels]
    return first(-p.max(1), wanted(given))


def other_forgetting(given: Samples) -> Index:
    """A sort of the counts."""
    count = given.forgotten_N.numpy().astype(float)  # type: ignore[union-attr]
    count[(count == 0) & ~given.correct_N.numpy()] = np.inf  # type: ignore[union-attr]
    return first(count, wanted(given))


def other_moderate(given: Samples) -> Index:
    """numpy's median and a sort."""
    _, features, labels = arrays(given)
    distance = np.zeros(len(labels))
    for label in range(C):
        own = labels == label
        distance[own] = np.linalg.norm(features[own] - np.median(features[own], axis=0), axis=1)
    spare = len(labels) - wanted(given)
    return np.argsort(distance, kind="stable")[spare // 2 : spare // 2 + wanted(given)]


def other_ccs(given: Samples) -> Index:
    """Strata by comparison with each interval, one after the other."""
    score = -given.margin_N.numpy()  # type: ignore[union-attr]
    kept = np.argsort(score)[: len(score) - round(0.3 * len(score))]
    edges = np.linspace(score[kept].min(), score[kept].max() + 1e-6, 51)
    strata = sorted((kept[(score[kept] >= a) & (score[kept] < b)] for a, b in itertools.pairwise(edges)), key=len)
    rng, found = np.random.default_rng(0), []
    for done, stratum in enumerate(strata):
        budget = min(len(stratum), (wanted(given) - sum(map(len, found))) // (50 - done))
        found.append(rng.permutation(stratum)[:budget])
    return np.concatenate(found)


def other_herding(given: Samples) -> Index:
    """The formula, class by class."""
    _, features, labels = arrays(given)
    found: list[int] = []
    for index, quota in shares(labels, wanted(given)):
        own, total, left = features[index], np.zeros(D, dtype=np.float32), np.ones(len(index), dtype=bool)
        mean = own.mean(0)
        for k in range(quota):
            distance = np.linalg.norm((k + 1) * mean - total - own, axis=1)
            distance[~left] = np.inf
            pick = int(distance.argmin())
            total, left[pick] = total + own[pick], False
            found.append(int(index[pick]))
    return np.array(found)


def other_kcenter(given: Samples) -> Index:
    """scikit-learn's pairwise distances to each pick, as the published code."""
    from sklearn.metrics import pairwise_distances

    _, features, labels = arrays(given)
    found: list[int] = []
    for index, quota in shares(labels, wanted(given)):
        own = features[index]
        pick = int(np.linalg.norm(own - own.mean(0), axis=1).argmin())
        near = np.full(len(index), np.inf)
        for _ in range(quota):
            found.append(int(index[pick]))
            near = np.minimum(near, pairwise_distances(own, own[pick : pick + 1])[:, 0])
            near[pick] = -1
            pick = int(near.argmax())
    return np.array(found)


def other_craig(given: Samples) -> Index:
    """submodlib's lazy greedy on the similarities of one class."""
    from submodlib import FacilityLocationFunction

    index, quota = next(shares(given.labels_N.numpy(), wanted(given)))
    own = Gradients.of(given)[torch.from_numpy(index)]
    distance = own.distances(torch.arange(len(index))).numpy()
    similarity = distance.max() - distance
    function = FacilityLocationFunction(n=len(index), mode="dense", sijs=similarity, separate_rep=False)
    return index[[j for j, _ in function.maximize(budget=quota, optimizer="LazyGreedy", show_progress=False)]]


def other_gradmatch(given: Samples) -> Index:
    """Pursuit on the formed gradients of one class; weights by scipy's non-negative least squares."""
    from scipy.optimize import nnls

    error, features, labels = arrays(given)
    index, quota = next(shares(labels, wanted(given)))
    extended = np.hstack([features[index], np.ones((len(index), 1), dtype=features.dtype)]).astype(float)
    gradients = (error[index, :, None] * extended[:, None, :]).reshape(len(index), -1)
    target = gradients.sum(0)
    ridge = 0.5 * np.square(gradients).sum(1).mean()
    chosen, residual = [], target
    for _ in range(quota):
        product = gradients @ residual
        product[chosen] = -np.inf
        chosen.append(int(product.argmax()))
        picked = gradients[chosen]
        # |L' w - L^-1 c|^2 with L L' = G + ridge is the same problem in k rows instead of C (D + 1).
        lower = np.linalg.cholesky(picked @ picked.T + ridge * np.eye(len(chosen)))
        weights, _ = nnls(lower.T, np.linalg.solve(lower, picked @ target), maxiter=100_000)
        residual = target - weights @ picked
    return index[chosen]


def other_glister(given: Samples) -> Index:
    """Every training gradient formed and held, as the published code."""
    error, features, labels = arrays(given)
    val = given.validation
    _, val_features, val_labels = arrays(val)  # type: ignore[arg-type]
    gradients = np.concatenate([(error[:, :, None] * features[:, None, :]).reshape(len(labels), -1), error], 1)
    logits, found = val.logits_NC, np.zeros(0, dtype=int)  # type: ignore[union-attr]
    goals = [int(wanted(given) * r / 15 + 0.5) for r in range(1, 16)]
    for goal in goals:
        total = gradients[found].sum(0)
        step = 0.01 * (val_features @ total[: C * D].reshape(C, D).T + total[C * D :])
        slope = error_of(logits - torch.from_numpy(step), torch.from_numpy(val_labels)).numpy()
        mean = np.concatenate([(slope.T @ val_features).ravel(), slope.sum(0)]) / len(slope)
        gain = gradients @ mean
        gain[found] = -np.inf
        found = np.concatenate([found, first(gain, goal - len(found))])
    return found


def other_d2(given: Samples) -> Index:
    """scikit-learn's neighbours by brute force, and a loop over the picks."""
    from sklearn.neighbors import NearestNeighbors

    _, features, _ = arrays(given)
    score = 1 - given.margin_N.numpy().astype(float)  # type: ignore[union-attr]
    kept = np.argsort(score, kind="stable")[: len(score) - round(0.4 * len(score))]
    distance, beside = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(features[kept]).kneighbors()
    score = score[kept] + (np.exp(-distance) * score[kept][beside]).sum(1)
    found = []
    for _ in range(wanted(given)):
        pick = int(score.argmax())
        score[beside[pick]] -= np.exp(-0.1 * distance[pick]) * score[pick]
        score[pick] = -np.inf
        found.append(pick)
    return kept[found]


def other_infobatch(given: Samples) -> Index:
    """numpy's choice without replacement, of the losses below the mean."""
    loss = given.loss_N.numpy()  # type: ignore[union-attr]
    below = loss < loss.mean()
    easy = np.flatnonzero(below)
    drawn = np.random.default_rng(0).choice(easy, len(easy) * M // N, replace=False)
    return np.concatenate([np.flatnonzero(~below), drawn])


def other_emp(given: Samples) -> Index:
    """A sum and a sort."""
    return first(given.loss_N.numpy() + given.entropy_N.numpy(), wanted(given))  # type: ignore[union-attr]


def other_ted(given: Samples) -> Index:
    """Every gradient formed and held."""
    error, features, labels = arrays(given)
    gradients = np.concatenate([(error[:, :, None] * features[:, None, :]).reshape(len(labels), -1), error], 1)
    kept = given.kept_N.numpy()  # type: ignore[union-attr]
    return first(np.abs(gradients @ (gradients[~kept].sum(0) - gradients[kept].sum(0))), wanted(given))


def other_pbcs(given: Samples) -> Index:
    """scikit-learn's ridge regression on every draw, scored on all samples; scipy's root for the projection."""
    from scipy.optimize import brentq
    from sklearn.linear_model import Ridge

    _, features, labels = arrays(given)
    extended = np.hstack([features, np.ones((len(labels), 1))])
    targets, size, rng = np.eye(C)[labels], wanted(given), torch.Generator().manual_seed(0)
    ridge = 0.01 * size * np.square(extended).mean()

    def projected(s: Any) -> Any:
        return np.clip(s - brentq(lambda shift: np.clip(s - shift, 0, 1).sum() - size, s.min() - 1, s.max()), 0, 1)

    likely = np.full(len(labels), size / len(labels))
    for _ in range(20):
        likely = projected(likely)
        drawn = torch.rand(5, len(labels), generator=rng, dtype=torch.float64).numpy() < likely
        losses = []
        for chosen in drawn:
            model = Ridge(alpha=ridge, fit_intercept=False).fit(extended[chosen], targets[chosen])
            losses.append(np.square(model.predict(extended) - targets).sum(1).mean())
        above = (losses - np.mean(losses)) / np.std(losses)
        likely = likely - above @ (drawn - likely) / 5
    return first(projected(likely), size)


def wanted(given: Samples) -> int:
    """10 %."""
    return len(given.labels_N) * M // N


CASES = {
    "random": Case("random", "numpy choice", other_random),
    "el2n": Case("el2n", "numpy, argsort", other_el2n),
    "grand": Case("grand", "numpy, gradients formed in batches", other_grand),
    "uncertainty": Case("uncertainty", "numpy, argsort", other_uncertainty),
    "moderate": Case("moderate", "numpy median, argsort", other_moderate),
    "forgetting": Case("forgetting", "numpy, argsort", other_forgetting),
    "ccs": Case("ccs", "numpy, interval by interval", other_ccs),
    "herding": Case("herding", "numpy, the formula", other_herding),
    "kcenter, balanced": Case("kcenter", "scikit-learn pairwise_distances", other_kcenter, {"balanced": True}),
    "craig": Case("craig", "submodlib LazyGreedy (one class × 10)", other_craig, share=C),
    "gradmatch": Case("gradmatch", "numpy, scipy nnls (one class × 10)", other_gradmatch, share=C),
    "glister": Case("glister", "numpy, all gradients formed", other_glister),
    "infobatch": Case("infobatch", "numpy choice", other_infobatch),
    "emp": Case("emp", "numpy, argsort", other_emp),
    "ted": Case("ted", "numpy, all gradients formed", other_ted),
    "pbcs": Case("pbcs", "scikit-learn Ridge", other_pbcs),
    "d2, aum": Case("d2", "scikit-learn NearestNeighbors", other_d2, {"score": "aum"}),
}


# --- one measurement, in its own process -----------------------------------------------------------------------------


class Resident:
    """The largest resident size while it is entered, in bytes above that at the start."""

    def __enter__(self) -> Resident:
        self.before = self.largest = resident()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.002):
            self.largest = max(self.largest, resident())

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    @property
    def extra_mb(self) -> float:
        """MB."""
        return (self.largest - self.before) / 2**20


def resident() -> int:
    """This process's resident size in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Timing:
    """Seconds, and the share of the machine that other processes used meanwhile."""

    seconds: float
    others: float


def used() -> float:
    """CPU seconds of the whole machine since it was started."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def timed(work: Callable[[], object]) -> Timing:
    """One run."""
    machine, own, started = used(), time.process_time(), time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    foreign = used() - machine - (time.process_time() - own)
    # The machine's clock ticks in hundredths of a second: what is shorter is judged by the half second around it.
    return Timing(seconds, max(0.0, foreign) / (os.cpu_count() or 1) / max(seconds, 0.5))


def quietly(work: Callable[[], object], repeats: int) -> list[Timing]:
    """So many undisturbed runs, fewer of what is slow."""
    found: list[Timing] = []
    while len(found) < repeats and not (found and found[0].seconds > SLOW):
        for _ in range(ATTEMPTS):
            for _ in range(PATIENCE):
                if timed(lambda: time.sleep(0.5)).others <= QUIET:
                    break
            timing = timed(work)
            if timing.others <= QUIET:
                break
        found.append(timing)
    return found


def ours(case: Case, given: Samples) -> Index:
    """What our selector chooses."""
    selector = SELECTORS[case.selector](**(case.settings or {}))
    rng = torch.Generator().manual_seed(0)
    return selector.select(given, size=wanted(given), progress=0.5, rng=rng).index_M.numpy()


def one(case: Case, side: str, repeats: int, out: Path) -> None:
    """Measure one side of a case and write what came out."""
    choose: Callable[[Samples], Index] = case.other if side == "other" else lambda given: ours(case, given)
    choose(made_up(N // 10))
    given = made_up()
    with Resident() as memory:
        index = choose(given)
    runs = quietly(lambda: choose(given), repeats)
    told = {"seconds": [run.seconds for run in runs], "others": max(run.others for run in runs)}
    out.write_text(json.dumps({**told, "mb": memory.extra_mb, "index": index.tolist()}))


def measured(name: str, side: str, options: argparse.Namespace) -> dict[str, Any]:
    """The same, from a process of its own."""
    with tempfile.TemporaryDirectory(prefix="swast-bench-") as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, __file__, "--threads", str(options.threads), "--repeats", str(options.repeats)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
        subprocess.run([*command, "--one", name, side, str(out)], check=True, env=environment)
        found: dict[str, Any] = json.loads(out.read_text())
        return found


# --- what it is compared with ----------------------------------------------------------------------------------------


def alike(name: str, mine: Sequence[int], theirs: Sequence[int]) -> str:
    """How far the two choices are the same."""
    if name == "craig":
        given = made_up()
        index, _ = next(shares(given.labels_N.numpy(), M))
        own = Gradients.of(given)[torch.from_numpy(index)]
        distance = own.distances(torch.arange(len(index)))
        position = {int(i): place for place, i in enumerate(index)}
        picks = ([position[i] for i in some if i in position] for some in (mine, theirs))
        covered = [float((distance.max() - distance[:, some].amin(1)).double().sum()) for some in picks]
        return f"objective {covered[0] / covered[1]:.5f} of theirs"
    if name in ("random", "ccs", "forgetting", "infobatch"):
        return "drawn"
    return f"{100 * len(set(mine) & set(theirs)) / len(theirs):.1f} % in common"


def resnet() -> tuple[float, float]:
    """FLOP of ResNet-18's forward pass over all samples, and of 20 epochs on a tenth of them."""
    with torch.device("meta"):
        model = MODELS["resnet18"]().build((3, 32, 32), C)
    layers = measure(model.to_empty(device="cpu"), (3, 32, 32))
    return N * forward_flops(layers), training_flops(layers, EPOCHS * M).dense


def pictures(**settings: Any) -> Trainer:
    """The small CNN with 50 000 images of 32 x 32."""
    data = {"name": "synthetic", "samples": N, "test_samples": 16, "classes": C, "channels": 3, "size": 32}
    shared = {"batch_size": 128, "augmentation": "crop_flip", "epochs": 100, "warmup_epochs": 5, "select_every": EPOCHS}
    cell = CellConfig(data={**data, "val_fraction": 0.0}, **shared, **settings)
    return Trainer(cell, load_bundle(cell.data))


def small_cnn(repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of the small CNN's forward pass over 50 000 images, and of an epoch on 5 000 of them."""
    trainer = pictures()
    trainer.index_M = torch.arange(M)
    list(trainer._train(1))
    passes = quietly(lambda: trainer._samples(frozenset({"logits", "features"})), repeats)
    epochs = quietly(lambda: list(trainer._train(2)), repeats)
    return [run.seconds for run in passes], [run.seconds for run in epochs]


def copied(trainer: Trainer) -> None:
    """A network of half the weights trained on all images for two epochs and asked for its margins, by hand."""
    torch.manual_seed(0)
    model = MODELS["small_cnn"](width=11).build((3, 32, 32), C)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    train, mean = trainer.bundle.train, trainer.bundle.mean_C.view(1, -1, 1, 1)
    for index_B in itertools.chain.from_iterable(torch.randperm(N).split(128) for _ in range(2)):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(train.images[index_B] - mean), train.labels[index_B]).backward()
        optimizer.step()
    with torch.no_grad():
        logits = [model.eval()(train.images[index_B] - mean) for index_B in torch.arange(N).split(1024)]
    first(-np.diff(np.sort(torch.cat(logits).softmax(1).numpy(), axis=1)[:, -2:], axis=1)[:, 0], M)


def prunefuse(repeats: int, forward: float, epochs: float, whole: float) -> str:
    """The row of the selector that trains a copy beside the network, from images: the small CNN, and ResNet-18's FLOP.

    ``forward``: FLOP of the pass once it is fused. ``epochs``, ``whole``: FLOP and seconds of the epochs that follow.
    """
    trainer = pictures(selector="prunefuse", coreset_ratio=M / N, prune_rate=0.0)
    mine = quietly(lambda: trainer._select(EPOCHS), repeats)
    theirs = quietly(lambda: copied(trainer), repeats)
    cell = CellConfig(model="resnet18", selector="prunefuse", coreset_ratio=M / N, warmup_epochs=5, select_every=EPOCHS)
    facts = Facts(N, 0, V, C, (3, 32, 32))
    flop = copy_of(cell, EPOCHS, network(cell.model, facts.image_shape, C), facts).dense
    seconds = [run.seconds for run in mine]
    cells = ["prunefuse, small CNN", spread(seconds, 2), "", "", "a loop by hand, half the weights"]
    cells += [spread([run.seconds for run in theirs], 2), "", "trained apart", f"{100 * flop / epochs:.2g}"]
    cells += [f"{100 * (flop + forward) / epochs:.1f}", f"{100 * statistics.median(seconds) / whole:.1f}"]
    return row(*cells, f"{100 * max(run.others for run in [*mine, *theirs]):.0f}")


def table(options: argparse.Namespace) -> Iterator[str]:
    """The whole of it."""
    forward, epochs = resnet()
    passes, cnn = small_cnn(3)
    whole = EPOCHS * statistics.median(cnn)
    yield f"ResNet-18: a forward pass over all samples is {100 * forward / epochs:.1f} % of the {EPOCHS} epochs' FLOP."
    yield f"Small CNN: forward pass {spread(passes)} s, one epoch on {M} samples {spread(cnn)} s."
    yield ""
    columns = ("selector", "s", "extra MB", "GFLOP", "by other means", "s", "extra MB", "choice")
    yield from header(*columns, "rule, % of FLOP", "with its pass, %", "with its pass, % of s", "others' CPU, %")
    for name in options.only:
        if name == "prunefuse":
            yield prunefuse(3, forward, epochs, whole)
            continue
        case, (mine, theirs) = CASES[name], (measured(name, side, options) for side in ("ours", "other"))
        looks = bool(SELECTORS[case.selector].needs & {"logits", "features"})
        times = EPOCHS if SELECTORS[case.selector].online else 1
        rule, seconds = 100 * times * case.flop / epochs, times * statistics.median(mine["seconds"])
        slow = [case.share * s for s in theirs["seconds"]]
        cells = [name, spread(mine["seconds"], 2), f"{mine['mb']:.0f}", f"{case.flop / 1e9:.2g}", case.how]
        cells += [spread(slow, 2), f"{theirs['mb']:.0f}", alike(name, mine["index"], theirs["index"]), f"{rule:.2g}"]
        shared = 100 * (seconds + looks * statistics.median(passes)) / whole
        cells += [f"{rule + 100 * looks * forward / epochs:.1f}", f"{shared:.1f}"]
        yield row(*cells, f"{100 * max(mine['others'], theirs['others']):.0f}")


def main() -> None:
    """Print the table, or make one measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=[*CASES, "prunefuse"], default=[*CASES, "prunefuse"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        name, side, out = options.one
        one(CASES[name], side, options.repeats, Path(out))
        return
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.threads} threads, torch {torch.__version__}\n"
    )
    for line in table(options):
        print(line, flush=True)


if __name__ == "__main__":
    main()
