#!/usr/bin/env bash
# Packs the libraries that Lathe is built with into a folder, for a machine without a package manager or
# a network: CMake finds them there with -DCMAKE_PREFIX_PATH=FOLDER/usr (scripts/gpu_check.sh does).
#
#     scripts/pack_deps.sh [FOLDER]     default: deps/; what is in it is replaced
#
# They are Debian's packages, unpacked: needs apt-get on Debian 12, x86-64, and installs nothing.
# They run with glibc 2.36 and later.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-deps}
most_mib=60

# libgomp1 is g++'s own, the others' libraries come beside their -dev packages. What oneDNN's CMake file
# asks for beyond itself is OpenCL.
packages=(
  libfmt-dev libfmt9
  libdnnl-dev libdnnl2 ocl-icd-opencl-dev ocl-icd-libopencl1 opencl-c-headers
  nlohmann-json3-dev
  libtomlplusplus-dev libtomlplusplus3
  libxxhash-dev libxxhash0
  libmd-dev libmd0
  libisal-dev libisal2
  libgtest-dev
)

downloads=$(mktemp -d)
trap 'rm -rf "$downloads"' EXIT
apt-get update -qq
(cd "$downloads" && apt-get download -qq -o APT::Sandbox::User=root "${packages[@]}")

rm -rf "$folder"
mkdir -p "$folder"
for package in "$downloads"/*.deb; do
  dpkg -x "$package" "$folder"
done
rm -rf "$folder/usr/share/doc" "$folder/usr/share/lintian" "$folder/usr/src"
# Of fmt both kinds of library come; the shared one is used.
rm -f "$folder"/usr/lib/*/libfmt.a

mib=$(du -sm "$folder" | cut -f1)
if [[ $mib -gt $most_mib ]]; then
  echo "scripts/pack_deps.sh: $folder has $mib MiB, must be at most $most_mib" >&2
  exit 1
fi
echo "$folder: $mib MiB"
