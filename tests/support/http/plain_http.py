"""httpx for servers of this machine, without TLS.

`httpx.get` and each new client read the certificates of all authorities, which takes longer than a request to a test's
server. The functions here open a connection for each request, as those of httpx do.
"""

from functools import partial

import httpx

from tests.support.waiting import PATIENCE_S

Client = partial(httpx.Client, verify=False, timeout=PATIENCE_S)
get = partial(httpx.get, verify=False, timeout=PATIENCE_S)
post = partial(httpx.post, verify=False, timeout=PATIENCE_S)
put = partial(httpx.put, verify=False, timeout=PATIENCE_S)
delete = partial(httpx.delete, verify=False, timeout=PATIENCE_S)
request = partial(httpx.request, verify=False, timeout=PATIENCE_S)
stream = partial(httpx.stream, verify=False, timeout=PATIENCE_S)
