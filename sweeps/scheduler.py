"""Which cell next: longest remaining path first, each segment in one pair of hands, no barrier between levels.

The same object hands out the work of a real sweep, of a sweep in one process, and of a simulated cluster.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from sweeps.stages import Chain, Segment


@dataclass(eq=False)
class _Node:
    segment: Segment
    work: float
    parent: _Node | None
    order: int
    """Place of its first cell in the grid: of two equal paths the earlier one goes first."""
    children: list[_Node] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    """Cells that end here and are still wanted."""
    owner: str | None = None
    done: bool = False
    height: float = 0.0
    """Work of the longest remaining path from here to a wanted cell's end; below 0 when there is none."""

    @property
    def available(self) -> bool:
        """Whether it may be handed out: its trunk is done, and it is nobody's."""
        free = self.owner is None and not self.done and self.height >= 0
        return free and (self.parent is None or self.parent.done)

    def measure(self) -> None:
        """Bring ``height`` up to what is wanted below."""
        below = [child.height for child in self.children if child.height >= 0]
        longest = max(below, default=0.0 if self.cells else -1.0)
        self.height = -1.0 if longest < 0 else longest + (0.0 if self.done else self.work)


class Scheduler:
    """Hands out cells whose trunk is done. A cell that is handed out trains whatever its chain still lacks.

    ``chains``: the cut chains of the cells to run (``sweeps.stages.forest``), in grid order. ``work``: what each
    segment costs, >= 0, any unit. ``done``: segments whose last state is there already.
    """

    def __init__(
        self, chains: Mapping[str, Chain], work: Mapping[Segment, float], done: Set[Segment] = frozenset()
    ) -> None:
        self._paths: dict[str, list[_Node]] = {}
        self._wanted = set(chains)
        self._running: set[str] = set()
        self._heap: list[tuple[float, int, _Node]] = []
        nodes: dict[Segment, _Node] = {}
        for order, (cell, chain) in enumerate(chains.items()):
            self._paths[cell] = _path(chain, nodes, work, done, order)
            self._paths[cell][-1].cells.append(cell)
        for node in reversed(nodes.values()):  # children come after their parents
            node.measure()
        for node in nodes.values():
            self._offer(node)

    @property
    def left(self) -> int:
        """Cells that are neither finished nor given up."""
        return len(self._wanted)

    @property
    def running(self) -> frozenset[str]:
        """Cells that are handed out."""
        return frozenset(self._running)

    def next(self, fits: Callable[[str], bool] = lambda _: True) -> str | None:
        """The cell to run now; ``None`` when every one left waits for a trunk that is being trained, or does not fit.

        ``fits``: whether there is room for a cell at present.
        """
        passed_over: list[_Node] = []
        chosen = None
        while chosen is None and (node := self._pop()) is not None:
            path = _longest(node)
            if fits(path[-1].cells[0]):
                chosen = path
            else:
                passed_over.append(node)
        for node in passed_over:
            self._offer(node)
        if chosen is None:
            return None
        cell = chosen[-1].cells[0]
        for node in chosen:
            node.owner = cell
        self._running.add(cell)
        return cell

    def reached(self, cell: str, epoch: int) -> None:
        """The state of a running cell after ``epoch`` is stored: whoever waits for it may go on."""
        for node in self._paths[cell]:
            if node.owner == cell and not node.done and node.segment.last <= epoch:
                node.done, node.owner = True, None
                self._measure_up(node)
                for child in node.children:
                    self._offer(child)

    def finished(self, cell: str) -> tuple[str, ...]:
        """A running cell's last state is stored. Returns every cell that ends there: they are finished with it."""
        leaf = self._paths[cell][-1]
        self.reached(cell, leaf.segment.last)
        return self._close(cell, [leaf])

    def diverged(self, cell: str, epoch: int) -> tuple[str, ...]:
        """A running cell has diverged in ``epoch``. Returns every cell that shares it: they have diverged too."""
        self.reached(cell, epoch - 1)
        top = next(node for node in self._paths[cell] if node.segment.last >= epoch)
        return self._close(cell, list(_below(top)))

    def released(self, cell: str, *, again: bool) -> None:
        """A running cell stopped before its end; ``again``: it is still wanted. Another may take over its trunk."""
        path = self._paths[cell]
        self._running.discard(cell)
        for node in path:
            if node.owner == cell:
                node.owner = None
        if not again:
            path[-1].cells.remove(cell)
            self._wanted.discard(cell)
        self._measure_up(path[-1])
        for node in path:
            self._offer(node)

    def _close(self, cell: str, nodes: list[_Node]) -> tuple[str, ...]:
        closed = [other for node in nodes for other in node.cells]
        self._wanted.difference_update(closed)
        for node in nodes:
            node.cells.clear()
        for node in reversed(nodes):
            self._measure_up(node)
        self._running.discard(cell)
        for node in self._paths[cell]:
            if node.owner == cell:
                node.owner = None
        return tuple(closed)

    def _measure_up(self, node: _Node | None) -> None:
        while node is not None:
            node.measure()
            node = node.parent

    def _offer(self, node: _Node) -> None:
        if node.available:
            heapq.heappush(self._heap, (-node.height, node.order, node))

    def _pop(self) -> _Node | None:
        """The available node with the longest path; what the heap remembers of nodes may be out of date."""
        while self._heap:
            height, _, node = heapq.heappop(self._heap)
            if node.available and -height == node.height:
                return node
            if node.available:
                self._offer(node)
        return None


def _longest(node: _Node) -> list[_Node]:
    """The path from a node down its longest branches to the first cell that ends on it."""
    path = [node]
    while path[-1].children and not path[-1].cells:
        live = [child for child in path[-1].children if child.height >= 0]
        path.append(max(live, key=lambda child: (child.height, -child.order)))
    return path


def _path(
    chain: Chain, nodes: dict[Segment, _Node], work: Mapping[Segment, float], done: Set[Segment], order: int
) -> list[_Node]:
    """The nodes of a chain, those that are not there yet made."""
    path: list[_Node] = []
    for segment in chain:
        parent = path[-1] if path else None
        if segment not in nodes:
            nodes[segment] = _Node(segment, work[segment], parent, order, done=segment in done)
            if parent is not None:
                parent.children.append(nodes[segment])
        path.append(nodes[segment])
    return path


def _below(node: _Node) -> Iterator[_Node]:
    yield node
    for child in node.children:
        yield from _below(child)


@dataclass(frozen=True)
class Simulation:
    """A sweep on so many workers: seconds from the first start to the last end.

    ``critical_path``: the longest chain, which no number of workers makes shorter. ``utilisation``: busy share of the
    workers' time, in [0, 1].
    """

    workers: int
    makespan: float
    critical_path: float
    utilisation: float


def simulate(
    chains: Mapping[str, Chain],
    seconds: Mapping[Segment, float],
    workers: int,
    done: Set[Segment] = frozenset(),
    dispatch: float = 0.0,
) -> Simulation:
    """Run the scheduler against a clock. ``dispatch``: seconds to hand a cell to a worker.

    Raises ``ValueError`` for less than one worker.
    """
    if workers < 1:
        raise ValueError(f"{workers} workers: give 1 or more")
    scheduler = Scheduler(chains, seconds, done)
    there = set(done)
    events: list[tuple[float, int, str, tuple[Segment, ...]]] = []
    now, busy, idle, number = 0.0, 0.0, workers, 0
    while True:
        while idle and (cell := scheduler.next()) is not None:
            todo = tuple(segment for segment in chains[cell] if segment not in there)
            spent = dispatch + seconds[todo[0]]
            heapq.heappush(events, (now + spent, number, cell, todo))
            idle, busy, number = idle - 1, busy + spent, number + 1
        if not events:
            break
        now, _, cell, todo = heapq.heappop(events)
        there.add(todo[0])
        if len(todo) > 1:
            scheduler.reached(cell, todo[0].last)
            heapq.heappush(events, (now + seconds[todo[1]], number, cell, todo[1:]))
            busy, number = busy + seconds[todo[1]], number + 1
        else:
            scheduler.finished(cell)
            idle += 1
    longest = max((sum(seconds[s] for s in chain if s not in done) for chain in chains.values()), default=0.0)
    return Simulation(workers, now, longest, busy / (workers * now) if now else 1.0)
