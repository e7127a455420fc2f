"""Is the resulting zone right? Everything that is not, at once."""

from __future__ import annotations

from daemon.model.object import Kind
from daemon.zone.check_admin import check_admin_policies
from daemon.zone.check_domain import check_domain
from daemon.zone.check_endpoint import check_endpoints
from daemon.zone.check_external import check_externals, check_uplinks_of_removed
from daemon.zone.check_zone import check_mtus, check_nodes, check_removed, check_tenants
from daemon.zone.edit import Edit
from daemon.zone.errors import Problems
from daemon.zone.quota import check_quotas


def validate(edit: Edit, problems: Problems) -> None:
    """Check what is written or removed, and what it touches; the rest was right before.

    Objects whose manifest could not be read are taken to exist and are not
    looked into, so that one mistake is one problem.
    """
    check_tenants(edit, problems)
    check_nodes(edit, problems)
    for path in edit.written_paths(Kind.DOMAIN):
        check_domain(path, edit.domains[path], problems)
    check_mtus(edit, problems)
    check_externals(edit, problems)
    check_endpoints(edit, problems)
    check_admin_policies(edit, problems)
    check_removed(edit, problems)
    check_uplinks_of_removed(edit, problems)
    check_quotas(edit, problems)
