"""Find nginx for the proxy tests."""

import os
import shutil

MISSING = "no nginx here (apt install nginx-light, or set NGINX to its path)"


def nginx() -> str | None:
    """Return the path of nginx: the value of NGINX, else the one on the PATH or in /usr/sbin, else None."""
    return os.environ.get("NGINX") or shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
