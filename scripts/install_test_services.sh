#!/usr/bin/env bash
# What `make test-all` needs beside Python packages: Java 17 for Spark, PostgreSQL's server programs, Chromium,
# Prometheus, Slurm, and buildah with mmdebstrap for the images.
# Installs what is missing with apt-get where this user may; else says what to install and how.
set -euo pipefail

missing=()
java_major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' || true)
[ "${java_major:-0}" -ge 17 ] || missing+=(openjdk-17-jre-headless)
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
  missing+=(chromium)
command -v prometheus >/dev/null || missing+=(prometheus)
command -v prometheus-alertmanager >/dev/null || missing+=(prometheus-alertmanager)
for package in slurmctld slurmd; do
  command -v "$package" "/usr/sbin/$package" >/dev/null || missing+=("$package")
done
command -v munged /usr/sbin/munged >/dev/null || missing+=(munge)
command -v sbatch >/dev/null || missing+=(slurm-client)
for package in buildah mmdebstrap; do
  command -v "$package" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "make test-all needs ${missing[*]} (Debian's names): install them, then run it again." >&2
  echo "Without them: make test, which leaves out the tests with real servers and a browser." >&2
  exit 1
fi
echo "installing ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
