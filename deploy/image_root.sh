#!/bin/sh
# Runs inside an image being built: installs what the programs link to, makes the user they run as, and
# writes the list of what the image holds (SPDX 2.3, from the package database) to /usr/share/krait.
# --worker adds what only workers need.
set -eu

# Debian 12's names | Ubuntu 24.04's, which are the same versions.
. /etc/os-release
case $ID-$VERSION_ID in
  debian-12)
    packages="tini libgrpc++1.51 libprotobuf32 libabsl20220623 libprometheus-cpp-core1.0
      libcpp-httplib0.11 libpcre2-8-0 libssl3"
    worker="libgloo0 libhwy1" ;;
  ubuntu-24.04)
    packages="tini libgrpc++1.51t64 libprotobuf32t64 libabsl20220623t64 libprometheus-cpp-core1.0
      libcpp-httplib0.14t64 libpcre2-8-0 libssl3t64"
    worker="libgloo-dev libhwy1t64" ;;
  *) echo "image_root: this is $ID $VERSION_ID, not Debian 12 or Ubuntu 24.04" >&2; exit 69 ;;
esac
if [ "${1:-}" = --worker ]; then packages="$packages $worker"; fi

export DEBIAN_FRONTEND=noninteractive
apt-get -q update
# shellcheck disable=SC2086  # a list
apt-get -q -y install --no-install-recommends $packages
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log

# By number: the images hold no name service for it, and Kubernetes wants to see that it is not root.
echo 'krait:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd
echo 'krait:x:10001:' >> /etc/group

mkdir -p /usr/share/krait
{
  printf '{"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",\n'
  printf '"name": "krait", "documentNamespace": "urn:krait:image:%s",\n' "$(dpkg-query -W | sha256sum | cut -c1-64)"
  printf '"creationInfo": {"created": "%s", "creators": ["Tool: image_root.sh"]},\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  printf '"packages": [\n'
  dpkg-query -W -f '${Package} ${Version} ${Architecture}\n' | awk -v os="$ID" -v release="$VERSION_ID" '
    {printf "%s{\"name\": \"%s\", \"SPDXID\": \"SPDXRef-%d\", \"versionInfo\": \"%s\", \"downloadLocation\": \"NOASSERTION\", \"externalRefs\": [{\"referenceCategory\": \"PACKAGE-MANAGER\", \"referenceType\": \"purl\", \"referenceLocator\": \"pkg:deb/%s/%s@%s?arch=%s&distro=%s-%s\"}]}",
      (NR > 1 ? ",\n" : ""), $1, NR, $2, os, $1, $2, $3, os, release}'
  printf '\n]}\n'
} > /usr/share/krait/sbom.spdx.json
