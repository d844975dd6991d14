"""Where the nginx of the proxy tests is."""

import os
import shutil

MISSING = "no nginx here (apt install nginx-light, or set NGINX to its path)"


def nginx() -> str | None:
    """The path of nginx: what NGINX says, else the one on the PATH or where administrators' programs are."""
    return os.environ.get("NGINX") or shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
