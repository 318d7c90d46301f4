"""Two evaluations, or two releases, side by side: what got better or worse, and for whom."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.errors import InputError, MismatchError
from evaluation.judge.comparison import METRICS, METRICS_OF_HALVES, compared
from evaluation.judge.harness import scored
from evaluation.judge.intervals import Figure, estimate
from evaluation.judge.significance import ALPHA, holm
from evaluation.judge.slices import kinds
from evaluation.metrics.table import LOWER_IS_BETTER
from evaluation.protocol import dataset as datas
from evaluation.protocol.cases import load_queries
from evaluation.report.terminal import uses as said_of_uses
from evaluation.runs import history, log
from evaluation.systems.release import Release
from ingest.stages import finished_stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from catalog.progress import Reporter
    from catalog.store import OpenRelease
    from evaluation.judge.result import Comparison
    from evaluation.metrics.ranking import Figures
    from evaluation.protocol.cases import Holdout, Split
    from evaluation.systems.location import Place

KIND = "compare"

FEWEST_OF_A_SLICE = 20


@dataclass(frozen=True)
class Row:
    """One metric on all queries or on one kind of them: before, after, and after minus before.

    `verdict` is "better" or "worse" where the difference is significant, or else "same".
    """

    group: str
    name: str
    queries: int
    metric: str
    before: Figure
    after: Figure
    difference: Figure
    p: float
    verdict: str


@dataclass(frozen=True)
class Contest:
    """What came of comparing `after` with `before`, on the `queries` that both answered.

    Of `available` ones of the split, where fewer were asked. `remarks` must be known to read it.
    `run` is its id in the log of runs.
    """

    before: str
    after: str
    queries: int
    left_out: int
    rows: list[Row]
    slices: list[Row]
    split: str = ""
    holdout: str = ""
    available: int = 0
    remarks: tuple[str, ...] = ()
    run: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @property
    def worse(self) -> list[Row]:
        """The metrics by which `after` is significantly worse on all queries."""
        return [row for row in self.rows if row.verdict == "worse"]


def of_runs(home: Path, before: str, after: str) -> Contest:
    """Compare two recorded evaluations. Raises `InputError`, or `MismatchError` where they differ.

    They must have held out the same songs of playlists of which they share some. Each is a run,
    which stands for the first system that it scored, or RUN:SYSTEM.
    """
    (old, first), (new, second) = _run_and_system(home, before), _run_and_system(home, after)
    for name in ("split", "holdout", "seed"):
        if old.payload[name] != new.payload[name]:
            raise MismatchError(
                f"runs {old.run} and {new.run} cannot be compared: {name} {old.payload[name]} and "
                f"{new.payload[name]}"
            )
    if old.payload["data_fingerprint"] != new.payload["data_fingerprint"]:
        raise MismatchError(
            f"runs {old.run} and {new.run} cannot be compared: they are of different data, so the "
            f"same playlist may have another last song; compare the two releases instead"
        )
    place = {name: at for at, name in enumerate(old.playlist_ids)}
    shared = [(place[name], at) for at, name in enumerate(new.playlist_ids) if name in place]
    if not shared:
        raise MismatchError(f"runs {old.run} and {new.run} have no playlist in common")
    mine, theirs = np.array([at for _, at in shared]), np.array([at for at, _ in shared])
    groups = {
        group: {
            name: np.array([names[at] == name for at in mine])
            for name in dict.fromkeys(names)
            if name
        }
        for group, names in new.kinds.items()
    }
    found = _contest(
        f"run {old.run}, release {old.payload['release']}, {first}",
        f"run {new.run}, release {new.payload['release']}, {second}",
        {metric: f[theirs] for (system, metric), f in old.figures.items() if system == first},
        {metric: f[mine] for (system, metric), f in new.figures.items() if system == second},
        groups,
        len(old.playlist_ids) + len(new.playlist_ids) - 2 * len(shared),
    )
    return replace(found, split=new.payload["split"], holdout=new.payload["holdout"])


def _run_and_system(home: Path, name: str) -> tuple[history.Past, str]:
    """The run and the system that RUN or RUN:SYSTEM names. Raises `InputError`."""
    run, colon, system = name.partition(":")
    found = history.load(home, run)
    if colon and system not in found.systems:
        raise InputError(
            f"run {found.run} has not scored '{system}', but {', '.join(found.systems)}"
        )
    return found, system or found.main


def of_releases(
    before: OpenRelease,
    after: OpenRelease,
    work: Path,
    reporter: Reporter,
    split: Split = "validation",
    holdout: Holdout | None = None,
    sample: int | None = None,
    place: Place | None = None,
) -> Contest:
    """Ask two releases the same held-out playlists of a work folder, or a random `sample` of them.

    With `place`, where both are published, several processes ask. Raises `MismatchError` where
    neither was made in this work folder, or where their splits have different seeds: then each was
    trained on some of the playlists that are held out from the other.
    """
    manifests = (before.manifest, after.manifest)
    seeds = {one.origin.parameters["seed"] for one in manifests}
    if len(seeds) > 1:
        raise MismatchError(
            f"releases {manifests[0].release} and {manifests[1].release} cannot be compared: their "
            f"playlists are split by different seeds, so one was trained on what is asked"
        )
    own = finished_stage(work, "split").fingerprint
    strangers = [one for one in manifests if one.origin.split_fingerprint != own]
    # The one that was made here says what order, catalog and training playlists are.
    home = manifests[1] if manifests[1] not in strangers else manifests[0]
    parameters = home.origin.parameters
    held = holdout or ("last" if datas.is_ordered(parameters) else "random")
    every = load_queries(work, split, held, 0, home)
    queries = every if sample is None else every.sample(sample, 0)
    data = datas.load(work, parameters)
    depth = 500 if held == "half" else 100

    def answered(release: OpenRelease) -> Mapping[str, Figures]:
        opened = partial(place.open, release.manifest.release) if place else None
        return scored(
            Release(release, data, "auto", opened), queries, data, depth, reporter
        ).per_query

    found = _contest(
        f"release {manifests[0].release}",
        f"release {manifests[1].release}",
        answered(before),
        answered(after),
        kinds(queries, data),
        0,
    )
    remarks = tuple(
        f"release {one.release} was made of other playlists or by another version: of these, it "
        f"was trained on none with the same id"
        for one in strangers
    )
    return replace(found, split=split, holdout=held, available=len(every), remarks=remarks)


def of_names(
    place: Place,
    before: str,
    after: str,
    work: Path,
    reporter: Reporter,
    split: Split,
    holdout: Holdout | None,
    sample: int | None = None,
) -> Contest:
    """Compare two recorded evaluations, or two releases, whichever the names are; and record it.

    Releases are asked anew. Raises `InputError` if the names are of different kinds. If the log
    cannot be written, that is reported, and `run` is empty.
    """
    releases = place.releases()
    found = [[one for one in releases if one.startswith(name)] for name in (before, after)]
    if not found[0] and not found[1]:
        contest = of_runs(place.folder, before, after)
        return _recorded(place.folder, contest, _payload(contest), reporter)
    if len(found[0]) != 1 or len(found[1]) != 1:
        raise InputError(
            f"'{before}' and '{after}' are not two runs, nor one release each: "
            f"`nextsong runs list` and `nextsong releases list` show what there is"
        )
    first, second = place.open(found[0][0]), place.open(found[1][0])
    try:
        origin = second.manifest.origin
        seed = int(origin.parameters["seed"])
        used = history.test_uses(place.folder, origin.data_fingerprint, seed)
        contest = of_releases(first, second, work, reporter, split, holdout, sample, place)
    finally:
        first.close()
        second.close()
    payload = _payload(contest) | {
        "release": found[1][0],
        "data_fingerprint": finished_stage(work, "read").inputs["data"],
        "split_seed": seed,
        "test_used": split == "test",
    }
    said = said_of_uses(used) if split == "test" else []
    contest = replace(contest, remarks=(*contest.remarks, *said))
    return _recorded(place.folder, contest, payload, reporter)


def _recorded(
    home: Path, contest: Contest, payload: Mapping[str, Any], reporter: Reporter
) -> Contest:
    return replace(contest, run=log.note(home, KIND, payload, reporter) or "")


def _payload(found: Contest) -> dict[str, Any]:
    """What the log of runs keeps: nothing of the test playlists is used unless it says so."""
    return {
        "before": found.before,
        "after": found.after,
        "split": found.split,
        "holdout": found.holdout,
        "test_used": False,
        "playlists": found.queries,
        "figures": {row.metric: row.after.mean for row in found.rows},
        "figures_before": {row.metric: row.before.mean for row in found.rows},
        "verdicts": {row.metric: row.verdict for row in found.rows},
    }


def _contest(
    before: str,
    after: str,
    old: Mapping[str, Figures],
    new: Mapping[str, Figures],
    groups: Mapping[str, Mapping[str, NDArray[np.bool_]]],
    left_out: int,
) -> Contest:
    metrics = [one for one in dict.fromkeys((*METRICS, *METRICS_OF_HALVES)) if one in old]
    everyone = np.ones(len(next(iter(new.values()))), dtype=bool)
    rows = _rows("", "all", metrics, old, new, everyone)
    slices = [
        row
        for group, members in groups.items()
        for name, chosen in members.items()
        if chosen.sum() >= FEWEST_OF_A_SLICE
        for row in _rows(
            group, name, [one for one in metrics if one.startswith("hr@")], old, new, chosen
        )
    ]
    return Contest(before, after, len(everyone), left_out, _judged(rows), _judged(slices))


def _rows(
    group: str,
    name: str,
    metrics: list[str],
    old: Mapping[str, Figures],
    new: Mapping[str, Figures],
    chosen: NDArray[np.bool_],
) -> list[tuple[str, str, int, Comparison, Figure, Figure]]:
    was = {metric: old[metric][chosen] for metric in metrics}
    now = {metric: new[metric][chosen] for metric in metrics if metric in new}
    before, after = estimate(was), estimate(now)
    return [
        (group, name, int(chosen.sum()), one, before[one.metric], after[one.metric])
        for one in compared(now, {"before": was}, metrics)
    ]


def _judged(rows: list[tuple[str, str, int, Comparison, Figure, Figure]]) -> list[Row]:
    adjusted = holm([one.p for *_, one, _, _ in rows])
    judged = []
    for (group, name, queries, one, before, after), p in zip(rows, adjusted, strict=True):
        gain = one.difference.mean * (-1 if one.metric in LOWER_IS_BETTER else 1)
        verdict = "same" if p >= ALPHA else "better" if gain > 0 else "worse"
        judged.append(
            Row(group, name, queries, one.metric, before, after, one.difference, p, verdict)
        )
    return judged
