"""A picture of a small cluster, as the controller's core would give it."""

import pytest
from pictures import STATUS
from splitweave.cluster.core.status import ClusterStatus


@pytest.fixture
def cluster_picture() -> ClusterStatus:
    return STATUS
