"""What `/metrics` tells, read as Prometheus reads it."""

from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


class Scrape:
    """One reading, which is checked: types, names, and that histograms are histograms.

    Args:
        text: of the answer.

    Attributes:
        types: of the families by name.
    """

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self._samples: dict[tuple[str, Labels], float] = {}
        for family in text_string_to_metric_families(text):
            assert family.name not in self.types, "a family is one block"
            assert family.documentation, family.name
            self.types[family.name] = family.type
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                assert key not in self._samples, key
                self._samples[key] = sample.value
        for name in (name for name, kind in self.types.items() if kind == "histogram"):
            self._check_histogram(name)

    def value(self, name: str, /, **labels: str) -> float:
        """A sample."""
        return self._samples[name, tuple(sorted(labels.items()))]

    def labels(self, name: str) -> list[dict[str, str]]:
        """Of all samples of a name."""
        return [dict(labels) for found, labels in self._samples if found == name]

    def requests(self, *routes: str) -> dict[tuple[str, str], int]:
        """Answers by route and status, those that there were."""
        name = "unroll_requests_total"
        return {
            (labels["route"], labels["status"]): int(self.value(name, **labels))
            for labels in self.labels(name)
            if self.value(name, **labels) and (not routes or labels["route"] in routes)
        }

    def timed(self, route: str) -> int:
        """Requests in a histogram."""
        return int(self.value("unroll_request_seconds_count", route=route))

    def _check_histogram(self, name: str) -> None:
        for labels in self.labels(f"{name}_count"):
            buckets = [
                (float(of["le"]), self.value(f"{name}_bucket", **of))
                for of in self.labels(f"{name}_bucket")
                if of.items() >= labels.items()
            ]
            assert len(buckets) >= 2
            for (bound, count), (next_bound, next_count) in pairwise(buckets):
                assert bound < next_bound
                assert count <= next_count, "buckets are cumulative"
            assert buckets[-1] == (float("inf"), self.value(f"{name}_count", **labels))
            assert self.value(f"{name}_sum", **labels) >= 0
