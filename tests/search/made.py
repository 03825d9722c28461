"""A space to draw from and a trial that is done: what tests of searches share."""

from search.findings import Finding
from search.search import Record, Search
from search.trials import Reached

SPACE = """
algorithm.learning_rate: {loguniform: [1e-5, 1e-2]}
algorithm.gamma: {uniform: [0.9, 0.999]}
algorithm.n_epochs: {randint: [1, 4]}
algorithm.net_arch: {choice: [[8], [8, 8]]}
"""


def finding_of(search: Search) -> Finding:
    """A trial that did all its steps."""
    return Finding(search.trials[0], Record([Reached(128, 1.0)], "finished"), None, [1.0])
