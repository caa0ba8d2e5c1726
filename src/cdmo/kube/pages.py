"""A list in pages: as long as it is, within a bound."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import msgspec

from cdmo.errors import ClusterUnavailable
from cdmo.kube.connect import Connection
from cdmo.kube.errors import translate
from cdmo.kube.resources import Ask
from cdmo.kube.wire import Page, decode_page

# Of 500 objects: a million of them. Kubernetes is built for 150,000 pods; a server that has ever one page more is not
# believed.
MOST_PAGES = 2000


async def pages(connection: Connection, ask: Ask, params: Mapping[str, str]) -> AsyncIterator[Page]:
    """Each page of a list; `params` with `limit` and selectors. Raises ClusterError, Expired when the list has
    outlived its token."""
    token = ""
    for _ in range(MOST_PAGES):
        body = await connection.call(ask, params={**params, "continue": token} if token else params)
        try:
            page = decode_page(body)
        except msgspec.MsgspecError as error:
            raise translate(error, ask) from error
        yield page
        token = page.metadata.continue_token or ""
        if not token:
            return
    raise ClusterUnavailable(f"could not {ask}: the list has no end after {MOST_PAGES} pages")
