"""The algebra of axes: type inference for tensor shapes, by unification with refinement.

An axis is an ordered product of nodes (768 = 12 heads x 64), outermost first. A node is a leaf, or it has been refined:
to a product, to a sum (a concatenation of axes, as a fused query-key-value projection is), or to an alias of another
node. Operators unify axes; a view or a slice refines a leaf where a size demands it, and everyone who carries the leaf
sees the refinement. What cannot be aligned is frozen with the reason, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import lcm, prod

Axis = tuple["Node", ...]
"""A product of nodes, outermost first; the empty product has size 1."""


class MisalignedError(Exception):
    """Two factorisations of one axis that share no common refinement."""


class Node:
    """A vertex of the union-find: a leaf dim until it is refined to an alias, a product or a sum of axes.

    Args:
        size: Number of positions.
        frozen: Why it cannot shrink, or None.
        multiple: Operators accept multiples of this alone.
        least: Operators need this many positions.
        flagged: Why its number of positions enters a result, or None.
    """

    __slots__ = ("alias", "events", "factors", "flagged", "frozen", "least", "multiple", "parts", "size")

    def __init__(self, size: int, frozen: str | None = None, events: Iterable[str] = ()) -> None:
        self.size = size
        self.frozen = frozen
        self.flagged: str | None = None
        self.events = set(events)
        self.multiple = self.least = 1
        self.alias: Node | None = None
        self.factors: Axis | None = None
        self.parts: list[Axis] | None = None

    def child(self, size: int) -> Node:
        """A fresh leaf that inherits what is known of this one."""
        leaf = Node(size, self.frozen, self.events)
        leaf.multiple, leaf.least = self.multiple, self.least
        leaf.flagged = self.flagged
        return leaf


def find(node: Node) -> Node:
    """The representative of a node; halves the path on the way."""
    while node.alias is not None:
        if node.alias.alias is not None:
            node.alias = node.alias.alias
        node = node.alias
    return node


def size_of(axis: Iterable[Node]) -> int:
    """Number of positions of an axis."""
    return prod(node.size for node in axis)


def factors(axis: Iterable[Node]) -> list[Node]:
    """The axis as leaves and sums: aliases followed, products expanded, factors of size 1 dropped."""
    out: list[Node] = []
    for node in axis:
        root = node if node.alias is None else find(node)
        if root.factors is not None:
            out += factors(root.factors)
        elif root.size != 1:
            out.append(root)
    return out


def leaves(*axes: Iterable[Node]) -> Iterator[Node]:
    """Every leaf that axes are made of, those inside sums included."""
    for axis in axes:
        for node in factors(axis):
            if node.parts is None:
                yield node
            else:
                yield from leaves(*node.parts)


def freeze(axis: Iterable[Node], reason: str) -> None:
    """Forbid every dim of the axis to shrink; the first reason stays."""
    for leaf in leaves(axis):
        if leaf.frozen is None:
            leaf.frozen = reason


def flag(axis: Iterable[Node], reason: str) -> None:
    """Note on every dim of the axis that a result depends on how many positions there are; the first reason stays."""
    for leaf in leaves(axis):
        leaf.flagged = leaf.flagged or reason


def tag(axis: Iterable[Node], *events: str) -> None:
    """Note on every dim of the axis what happened to it."""
    for leaf in leaves(axis):
        leaf.events.update(events)


def align(axis: Iterable[Node], multiple: int, least: int = 1) -> None:
    """Ask every dim of the axis to keep a multiple of this many positions, and so many at least."""
    for leaf in leaves(axis):
        leaf.multiple, leaf.least = lcm(leaf.multiple, multiple), max(leaf.least, least)


def concatenation(parts: Sequence[Axis]) -> Axis:
    """The sum of axes, in order; parts of size 0 vanish."""
    parts = [part for part in parts if size_of(part)]
    if len(parts) == 1:
        return parts[0]
    node = Node(sum(size_of(part) for part in parts))
    if any(size_of(part) != 1 for part in parts):
        node.parts = list(parts)
    else:
        node.frozen = "its positions are told apart one by one"
    return (node,)


def unify(a: Axis, b: Axis, reason: str) -> None:
    """Make two axes of equal size one; where they cannot be aligned, both are frozen for this reason."""
    try:
        _unify(a, b)
    except MisalignedError:
        freeze((*a, *b), reason)


def _unify(a: Iterable[Node], b: Iterable[Node]) -> None:
    left, right = factors(a), factors(b)
    while left and right and left != right:
        x, y = find(left[0]), find(right[0])
        if x.factors is not None or y.factors is not None:  # refined by an earlier step of this very loop
            left[:1], right[:1] = factors([x]), factors([y])
        elif x is y or x.size == y.size:
            _merge(x, y)
            del left[0], right[0]
        elif x.size > y.size:
            left[:1] = split((x,), y.size)
        else:
            right[:1] = split((y,), x.size)
    if left != right:
        raise MisalignedError


def _merge(x: Node, y: Node) -> None:
    if x is y:
        return
    if x.parts is None or (y.parts is not None and len(y.parts) > len(x.parts)):
        x, y = y, x
    if y.parts is None:  # a leaf takes the other's structure, and hands over what it knows
        y.alias = x
        for leaf in leaves((x,)):
            leaf.events |= y.events
            leaf.multiple, leaf.least = lcm(leaf.multiple, y.multiple), max(leaf.least, y.least)
            leaf.frozen = y.frozen if leaf.frozen is None else leaf.frozen
            leaf.flagged = y.flagged if leaf.flagged is None else leaf.flagged
        return
    assert x.parts is not None
    x.parts = list(_align(x.parts, y.parts))
    y.alias = x


def _align(parts: Sequence[Axis], others: Sequence[Axis]) -> Iterator[Axis]:
    left, right = list(parts), list(others)
    while left and right:
        p, q = left.pop(0), right.pop(0)
        if size_of(p) > size_of(q):
            p, rest = cut(p, size_of(q))
            left.insert(0, rest)
        elif size_of(q) > size_of(p):
            q, rest = cut(q, size_of(p))
            right.insert(0, rest)
        _unify(p, q)
        yield p


def split(axis: Axis, lead: int) -> tuple[Node, Node]:
    """Refine an axis into a product of two nodes, ``lead`` outermost.

    Raises:
        MisalignedError: where the axis has no such factorisation.
    """
    total = size_of(axis)
    if lead <= 0 or total % lead:
        raise MisalignedError
    head, tail = _divide(factors(axis), lead)
    return _as_node(head), _as_node(tail)


def _as_node(axis: Sequence[Node]) -> Node:
    if len(axis) == 1:
        return axis[0]
    node = Node(size_of(axis))
    node.factors = tuple(axis)
    return node


def _divide(nodes: list[Node], lead: int) -> tuple[list[Node], list[Node]]:
    """Cut a list of factors where the product of the first ones is ``lead``, splitting one factor if need be."""
    head: list[Node] = []
    done = 1
    for i, node in enumerate(nodes):
        if done == lead:
            return head, nodes[i:]
        if lead % (done * node.size) == 0:
            head.append(node)
            done *= node.size
            continue
        first, second = _split_node(node, lead // done)
        return [*head, first], [second, *nodes[i + 1 :]]
    return head, []


def _split_node(node: Node, lead: int) -> tuple[Node, Node]:
    node = find(node)
    if lead <= 0 or node.size % lead:
        raise MisalignedError
    trail = node.size // lead
    if node.parts is None:
        first, second = node.child(lead), node.child(trail)
    else:
        first, second = _split_sum(node.parts, trail)
    node.factors, node.parts = (first, second), None
    return first, second


def _split_sum(parts: Sequence[Axis], trail: int) -> tuple[Node, Node]:
    """Factor a common trailing dim out of every part: (q + k + v) of 12 x 64 each is (12 + 12 + 12) x 64."""
    if any(size_of(part) % trail for part in parts):
        raise MisalignedError
    pairs = [_divide(factors(part), size_of(part) // trail) for part in parts]
    second = _as_node(pairs[0][1])
    for _, tail in pairs[1:]:
        _unify((second,), tail)
    return _as_node(concatenation([tuple(head) for head, _ in pairs])), second


def cut(axis: Axis, at: int) -> tuple[Axis, Axis]:
    """Refine an axis into a sum of its first ``at`` positions and the others.

    Raises:
        MisalignedError: where the cut would fall inside a trailing factor.
    """
    if at <= 0:
        return (Node(0),), axis
    if at >= size_of(axis):
        return axis, (Node(0),)
    nodes = factors(axis)
    first, rest = nodes[0], tuple(nodes[1:])
    inner = size_of(rest)
    if at % inner:
        raise MisalignedError
    before, after = _cut_node(first, at // inner)
    return (*before, *rest), (*after, *rest)


def _cut_node(node: Node, at: int) -> tuple[Axis, Axis]:
    if node.parts is None:
        node.parts = [(node.child(at),), (node.child(node.size - at),)]
        return node.parts[0], node.parts[1]
    before = 0
    while at - size_of(node.parts[before]) >= 0:
        at -= size_of(node.parts[before])
        before += 1
    if at > 0:
        node.parts[before : before + 1] = cut(node.parts[before], at)
        before += 1
    return concatenation(node.parts[:before]), concatenation(node.parts[before:])


def regroup(axes: Sequence[Axis], sizes: Sequence[int]) -> list[Axis]:
    """The axes of a view: the same positions in row-major order under other sizes.

    Raises:
        MisalignedError: where the new sizes cut across the factors.
    """
    empty = next((i for i, axis in enumerate(axes) if size_of(axis) == 0), None)
    if empty is not None:  # no expert's token, say: the sizes beside the zero divide as they do elsewhere
        at = list(sizes).index(0)
        before, after = regroup(axes[:empty], sizes[:at]), regroup(axes[empty + 1 :], sizes[at + 1 :])
        return [*before, axes[empty], *after]
    remaining = [node for axis in axes for node in factors(axis)]
    out: list[Axis] = []
    for size in sizes:
        head, remaining = _divide(remaining, size)
        if size_of(head) != size:
            raise MisalignedError
        out.append(tuple(head))
    if remaining:
        raise MisalignedError
    return out
