"""What pip is configured with on this machine, from its files and its environment variables.

As a program it prints the same for uv, which reads none of pip's configuration, as lines of NAME=VALUE.
"""

import ast
import subprocess
import sys

# Hashes decide what may be installed, so the best match of any index is as good as that of the first.
_ANY_INDEX = "unsafe-best-match"


def pip_setting(name: str) -> list[str]:
    """Return the values of one pip setting (`find-links`, `index-url`, ...), strongest first, none twice."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found: list[str] = []
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        if key.rsplit(".", 1)[-1] == name:
            found += [part for part in ast.literal_eval(value).split() if part not in found]
    return found


def uv_settings() -> dict[str, str]:
    """Return the environment variables that tell uv what pip is told: indexes, folders, certificates, time-out."""
    settings = {
        "UV_DEFAULT_INDEX": pip_setting("index-url")[:1],
        "UV_INDEX": pip_setting("extra-index-url"),
        "UV_INSECURE_HOST": pip_setting("trusted-host"),
        "SSL_CERT_FILE": pip_setting("cert")[:1],
        "SSL_CLIENT_CERT": pip_setting("client-cert")[:1],
        "UV_HTTP_TIMEOUT": (pip_setting("timeout") or pip_setting("default-timeout"))[:1],
    }
    found = {name: " ".join(values) for name, values in settings.items() if values}
    if folders := pip_setting("find-links"):
        found["UV_FIND_LINKS"] = ",".join(folders)
    if proxy := pip_setting("proxy"):
        found |= {"HTTP_PROXY": proxy[0], "HTTPS_PROXY": proxy[0]}
    return found | ({"UV_INDEX_STRATEGY": _ANY_INDEX} if "UV_INDEX" in found else {})


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}={value}\n" for name, value in uv_settings().items())
