#!/bin/sh
# Run in the build stage of Dockerfile.libraries, without a network: install the wheels, strip what a guest has no use for.
set -eu
umask 022

context=$1
lib=/opt/rlm/lib
stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')

# Debian's Python has no pip, so pip runs from its own wheel in both bases.
pip=$(echo "$context"/wheels/pip-*.whl)
python3 "$pip/pip" install \
    --no-index --find-links "$context/wheels" --require-hashes --no-deps --no-compile --no-cache-dir --quiet \
    --root-user-action ignore --target "$lib" --requirement "$context/images/requirements.lock"

cd "$lib"
rm -rf bin share pip pip-*.dist-info
find "$lib" "$stdlib" -type d \( -name test -o -name tests \) -prune -exec rm -rf {} +
rm -rf "$stdlib"/site-packages/* "$stdlib"/ensurepip "$stdlib"/idlelib "$stdlib"/turtledemo /usr/local/bin/pip*
rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* "$context"
find / -xdev -type f -perm /6000 -exec chmod a-s {} +

# What is installed, for the label that the host reads.
PYTHONPATH=$lib python3 > /opt/rlm/packages -c '
import importlib.metadata, platform
found = {each.name.lower().replace("_", "-"): each.version for each in importlib.metadata.distributions()}
found["python"] = platform.python_version()
print(",".join(f"{name}={version}" for name, version in sorted(found.items())))'

# The root file system is read-only later, so what has no .pyc now is compiled again at every start. Sources don't
# change either: "unchecked" spares the comparison.
find "$stdlib" /opt/rlm -type d -name __pycache__ -prune -exec rm -rf {} +
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$stdlib" /opt/rlm
