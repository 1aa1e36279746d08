"""What a section is: a module with these two functions."""

from pathlib import Path
from typing import Any, Protocol

from benchmarks.sections.plan import Plan

Results = dict[str, Any]


class Section(Protocol):
    """One thing that a run measures, and its part of the page."""

    def measure(self, plan: Plan, results: Results) -> Any:
        """Measures it.

        Args:
            plan: what to measure, and for how long.
            results: of the sections before it.

        Returns:
            What goes into `results.json`.
        """
        ...

    def write(self, found: Any, results: Results, folder: Path) -> str:
        """Its part of the page; writes its pictures beside it.

        Args:
            found: what `measure` returned.
            results: of all sections.
            folder: of the page.
        """
        ...
