"""What every program here needs: its options, and a connection made by them."""

import json
import sys

from proton import SSLDomain

OPTIONS = json.loads(sys.argv[1])


def connect(container):
    """Connect by url, user, password, mechanisms, ca, cert, key, max_frame_size; once, unless `reconnect` is set."""
    domain = None
    if "ca" in OPTIONS:
        domain = SSLDomain(SSLDomain.MODE_CLIENT)
        if "cert" in OPTIONS:
            domain.set_credentials(OPTIONS["cert"], OPTIONS["key"], None)
        domain.set_trusted_ca_db(OPTIONS["ca"])
        domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME, OPTIONS["ca"])
    chosen = {key: OPTIONS[key] for key in ("user", "password", "max_frame_size") if key in OPTIONS}
    if "mechanisms" in OPTIONS:
        chosen["allowed_mechs"] = OPTIONS["mechanisms"]
    if not OPTIONS.get("reconnect"):
        chosen["reconnect"] = False
    insecure = OPTIONS.get("insecure", False)
    return container.connect(OPTIONS["url"], ssl_domain=domain, allow_insecure_mechs=insecure, **chosen)


def say(*words):
    print(*words, flush=True)
