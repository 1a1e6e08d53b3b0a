"""Nodes on which jobs end before any of their cells begins. Imports no torch."""

_MOST = 3  # of them in a row: then the cause is not the nodes


class BadNodes:
    """Remembers which nodes were bad, and for which cells."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.cause = ""  # what was seen on the last one
        self._row = set[str]()
        self._of_cell: dict[str, set[str]] = {}

    def note(self, node: str, cell: str, cause: str) -> bool:
        """Note that a cell's job ended on a node before any cell began; return whether the node is a new one."""
        self.cause = cause
        self._row.add(node)
        self._of_cell.setdefault(cell, set()).add(node)
        if node in self.names:
            return False
        self.names.append(node)
        return True

    def forget_row(self) -> None:
        """Note that a cell trains: jobs can begin."""
        self._row.clear()

    def all_bad(self) -> str:
        """Return why nothing should be submitted any more, "" if there is no reason."""
        return self._why(self._row) if len(self._row) >= _MOST else ""

    def bad_for(self, cell: str) -> str:
        """Return why this cell should not be submitted any more, though others train, "" if there is no reason."""
        nodes = self._of_cell.get(cell, set())
        return self._why(nodes) if len(nodes) >= _MOST else ""

    def why(self) -> str:
        """Return what was seen, on which nodes."""
        return self._why(set(self.names))

    def _why(self, nodes: set[str]) -> str:
        return f"jobs end on {', '.join(sorted(nodes))} before any cell begins: {self.cause}"
